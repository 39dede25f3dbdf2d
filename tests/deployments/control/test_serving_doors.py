"""Tokens and TLS of ensembles that Ray Serve runs: who is admitted, what changes without a restart, where tokens go."""

import hashlib
import secrets
import time
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import trustme

from quorate.deployments import Client, Credentials, Doors
from quorate.deployments.errors import DeployError
from quorate.deployments.security.doors import doors_from_files
from quorate.deployments.wire import open_inference_pb2 as pb

FACTORIES = Path(__file__).parents[1] / "support" / "factories"
ROWS = np.array([[0.5, -1.0]], np.float32)
SPEC = {
    "name": "doors",
    "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
    "members": {
        "m": {
            "model": "known:known", "config": {"shift": 1}, "inputs": ["x"], "output": "values",
            "resources": {"num_cpus": 0.1},
        }
    },
    "fusion": {"rule": "mean", "deadline_s": 5.0},
}  # fmt: skip
ONE, TWO, MANAGES = (secrets.token_hex(32) for _ in range(3))


@pytest.fixture(scope="module")
def deploy(cluster):
    from quorate.deployments import parse_spec
    from quorate.deployments.control.deploy import delete, deploy
    from quorate.deployments.control.describe import ensembles

    def run(doors=None):
        return deploy(parse_spec(SPEC), FACTORIES, doors)

    yield run
    if "doors" in ensembles():
        delete("doors")


def token_file(folder, *tokens):
    path = folder / "tokens"
    path.touch(mode=0o600)
    path.write_text("\n".join(tokens))
    return path


def status(url, token="", path="/v2", method="GET", **options):
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.request(method, url + path, headers=headers, timeout=20, **options).status_code


def replica():
    from quorate.deployments.control.describe import describe_fusion

    # A replica that is busy for a moment, as on a crowded machine, is left out of what is described.
    until = time.monotonic() + 60
    while not (found := describe_fusion("doors")) and time.monotonic() < until:
        time.sleep(0.1)
    (one,) = found
    return one


def test_tokens_open_the_doors_and_change_without_a_restart(deploy, tmp_path):
    tokens = token_file(tmp_path, ONE)
    deployed = deploy(doors_from_files("0.0.0.0", tokens))
    assert "0.0.0.0" not in deployed.http  # what is said is an address that others reach
    url, before = deployed.http, replica()["pid"]
    load = {"path": "/v2/repository/models/doors/load", "method": "POST"}
    assert [status(url, token) for token in ("", ONE, TWO)] == [401, 200, 401]
    assert status(url, path="/v2/health/ready") == 200
    assert status(url, ONE, **load) == 403
    with Client(url, credentials=Credentials(ONE)) as client:
        assert client.infer("doors", {"x": ROWS}).outputs["fused"].shape == (1, 3)

    tokens.write_text(f"{ONE}\n{TWO}")
    managed = tmp_path / "managed"
    managed.touch(mode=0o600)
    managed.write_text(MANAGES)
    deploy(doors_from_files("0.0.0.0", tokens, managed))
    assert [status(url, token) for token in ("", ONE, TWO, MANAGES)] == [401, 200, 200, 200]
    assert status(url, TWO, **load) == 403
    assert status(url, MANAGES, **load) not in (401, 403)

    tokens.write_text(TWO)
    deploy(doors_from_files("0.0.0.0", tokens))
    assert deploy().http == url  # nothing said of doors leaves them as they are
    assert [status(url, token) for token in ("", ONE, TWO)] == [401, 401, 200]
    assert (replica()["pid"], replica()["token"], replica()["tls"]) == (before, True, False)


def test_no_token_is_anywhere_in_rays_store_or_logs(deploy, cluster):
    from ray.experimental import internal_kv

    replica()
    digest = hashlib.sha256(TWO.encode()).hexdigest().encode()
    found = b""
    for namespace in (None, b"quorate", b"serve"):
        keys = internal_kv._internal_kv_list(b"", namespace=namespace)
        found += b"".join(internal_kv._internal_kv_get(key, namespace=namespace) or b"" for key in keys)
    session = Path(cluster._private.worker._global_node.get_session_dir_path())
    logs = b"".join(path.read_bytes() for path in (session / "logs").rglob("*") if path.is_file())
    assert digest in found
    assert len(logs) > 1000
    for token in (ONE, TWO, MANAGES):
        assert token.encode() not in found + logs + repr(replica()).encode()


def test_tls_at_both_doors(deploy, tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    cert, key, root = (tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem"))
    authority.cert_pem.write_to_path(root)
    key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(cert)
    deployed = deploy(doors_from_files(tls_cert=cert, tls_key=key))
    assert deployed.http.startswith("https://127.0.0.1:")
    assert replica()["tls"]
    with Client(deployed.http, credentials=Credentials(ca=str(root))) as client:
        assert client.infer("doors", {"x": ROWS}).outputs["fused"].shape == (1, 3)
    with grpc.secure_channel(deployed.grpc, grpc.ssl_channel_credentials(root.read_bytes())) as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive", response_deserializer=bytes)
        assert pb.ServerLiveResponse.FromString(live(b"", timeout=20)).live


def test_files_that_are_missing_where_the_replica_runs_are_named(deploy):
    from quorate.deployments.security.certificates import Tls

    with pytest.raises(DeployError, match=r"nowhere\.pem: cannot be read"):
        deploy(Doors(tls=Tls("nowhere.pem", "nowhere.key")))
