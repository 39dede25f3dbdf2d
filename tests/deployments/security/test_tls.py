"""TLS and mutual TLS at both doors, with certificates of a CA that each test session makes."""

import hashlib
import ssl
from datetime import datetime

import grpc
import httpx
import numpy as np
import pyarrow as pa
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from quorate.deployments import Client, Credentials, Doors
from quorate.deployments.client.load.load_test import Load, bench
from quorate.deployments.errors import CredentialError, UnauthenticatedError, UnavailableError
from quorate.deployments.security.certificates import Certificates, Tls
from quorate.deployments.security.doors import doors_from_files
from quorate.deployments.wire import open_inference_pb2 as pb

ROWS = np.array([[0.5, -1.0]], np.float32)
EXPIRED = {"not_before": datetime(2001, 1, 1), "not_after": datetime(2001, 2, 1)}
TOKEN = "0123456789abcdef" * 3


class Authority:
    """A CA, its root on disk, and what it signs."""

    def __init__(self, folder, name):
        self._ca, self._folder, self._name = trustme.CA(), folder, name
        self.root = folder / f"{name}.ca.pem"
        self._ca.cert_pem.write_to_path(self.root)

    def issue(self, owner, **validity):
        """Certificate and key of a host or a person, as two files."""
        issued = self._ca.issue_cert(owner, **validity)
        cert, key = self._folder / f"{self._name}.{owner}.pem", self._folder / f"{self._name}.{owner}.key"
        cert.unlink(missing_ok=True)
        for blob in issued.cert_chain_pems:
            blob.write_to_path(cert, append=True)
        key.touch(mode=0o600)
        issued.private_key_pem.write_to_path(key)
        return cert, key


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("others"), "others")


@pytest.fixture(scope="module")
def tls(open_doors, pair_spec, ours):
    cert, key = ours.issue("127.0.0.1")
    return open_doors(pair_spec, doors_from_files(tls_cert=cert, tls_key=key))


@pytest.fixture(scope="module")
def mutual(open_doors, pair_spec, ours, others):
    """The server's certificate is ours; clients show certificates of the others, and a token."""
    cert, key = ours.issue("127.0.0.1")
    settings = Doors(
        ask_tokens=(hashlib.sha256(TOKEN.encode()).hexdigest(),), tls=Tls(str(cert), str(key), str(others.root))
    )
    return open_doors(pair_spec, settings)


def infer_over_http(doors, **credentials):
    with Client(doors.http, credentials=Credentials(**{k: str(v) for k, v in credentials.items()})) as client:
        return client.infer("pair", {"x": ROWS}).outputs["fused"].shape


def infer_over_grpc(address, token="", **files):
    """The status of an inference over TLS with these roots, certificate and key."""
    given = {name: path.read_bytes() for name, path in files.items()}
    credentials = grpc.ssl_channel_credentials(given.get("ca"), given.get("key"), given.get("cert"))
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=ROWS.shape)
    request = pb.ModelInferRequest(model_name="pair", inputs=[tensor], raw_input_contents=[ROWS.tobytes()])
    with grpc.secure_channel(address, credentials) as channel:
        path = "/inference.GRPCInferenceService/ModelInfer"
        stub = channel.unary_unary(path, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
        metadata = [("authorization", f"Bearer {token}")] if token else []
        return stub.future(request, timeout=10, metadata=metadata).code()


def test_clients_that_know_the_ca_are_served(tls, ours):
    assert infer_over_http(tls, ca=ours.root) == (1, 3)
    assert infer_over_grpc(tls.grpc, ca=ours.root) == grpc.StatusCode.OK


def test_clients_that_know_another_ca_do_not_send_a_byte(tls, others):
    with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        infer_over_http(tls, ca=others.root)
    assert infer_over_grpc(tls.grpc, ca=others.root) == grpc.StatusCode.UNAVAILABLE


def test_a_door_whose_certificate_has_expired_gets_no_request(open_doors, pair_spec, tmp_path):
    ours = Authority(tmp_path, "old")
    cert, key = ours.issue("127.0.0.1", **EXPIRED)
    doors = open_doors(pair_spec, doors_from_files(tls_cert=cert, tls_key=key))
    with pytest.raises(UnavailableError, match="certificate has expired"):
        infer_over_http(doors, ca=ours.root)
    assert infer_over_grpc(doors.grpc, ca=ours.root) == grpc.StatusCode.UNAVAILABLE


def test_a_client_whose_certificate_has_expired_is_not_served(mutual, ours, others):
    cert, key = others.issue("an-old-client", **EXPIRED)
    shown = {"ca": ours.root, "cert": cert, "key": key}
    with pytest.raises(UnavailableError):
        infer_over_http(mutual, token=TOKEN, **shown)
    assert infer_over_grpc(mutual.grpc, TOKEN, **shown) == grpc.StatusCode.UNAVAILABLE


def test_a_client_that_speaks_no_tls_gets_no_answer(tls):
    with pytest.raises(httpx.TransportError):
        httpx.get(tls.http.replace("https", "http") + "/v2/health/live", timeout=10)
    with grpc.insecure_channel(tls.grpc) as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive", response_deserializer=bytes)
        assert live.future(b"", timeout=10).code() == grpc.StatusCode.UNAVAILABLE


def test_the_server_speaks_tls_1_2_and_later_only(tls, ours):
    assert tls.certificates.http.minimum_version == ssl.TLSVersion.TLSv1_2
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=str(ours.root))
        context.minimum_version = context.maximum_version = version
        assert httpx.get(f"{tls.http}/v2/health/live", verify=context).status_code == 200


def test_bench_loads_a_server_behind_tls(tls, ours):
    result = bench(
        tls.http, "pair", Load(clients=2, duration_s=0.3, warm_up_s=0.1), credentials=Credentials(ca=str(ours.root))
    )
    assert result.requests > 0
    assert result.errors == 0


def test_mutual_tls_wants_the_right_certificate_and_the_token(mutual, ours, others):
    cert, key = others.issue("a-client")
    shown = {"ca": ours.root, "cert": cert, "key": key}
    assert infer_over_http(mutual, token=TOKEN, **shown) == (1, 3)
    assert infer_over_grpc(mutual.grpc, TOKEN, **shown) == grpc.StatusCode.OK
    assert infer_over_grpc(mutual.grpc, **shown) == grpc.StatusCode.UNAUTHENTICATED
    wrong_cert, wrong_key = ours.issue("another-client")
    for files in ({"ca": ours.root}, {"ca": ours.root, "cert": wrong_cert, "key": wrong_key}):
        with pytest.raises(UnavailableError):
            infer_over_http(mutual, token=TOKEN, **files)
        assert infer_over_grpc(mutual.grpc, TOKEN, **files) == grpc.StatusCode.UNAVAILABLE


def test_bench_shows_token_and_certificate(mutual, ours, others):
    cert, key = others.issue("a-client")
    shown = Credentials(TOKEN, str(ours.root), str(cert), str(key))
    result = bench(mutual.http, "pair", Load(clients=1, duration_s=0.3, warm_up_s=0.1), credentials=shown)
    assert result.errors == 0


def test_new_files_are_used_from_the_next_connection_on(open_doors, pair_spec, ours, others, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    key.touch(mode=0o600)

    def put(authority):
        for path, source in zip((cert, key), authority.issue("127.0.0.1"), strict=True):
            path.write_bytes(source.read_bytes())

    put(ours)
    doors = open_doors(pair_spec, doors_from_files(tls_cert=cert, tls_key=key))
    assert infer_over_http(doors, ca=ours.root) == (1, 3)
    key.write_bytes(others.issue("127.0.0.1")[1].read_bytes())
    with pytest.raises(CredentialError, match="is no certificate for the key"):
        doors.certificates.refresh()
    assert infer_over_http(doors, ca=ours.root) == (1, 3)
    put(others)
    doors.certificates.refresh()
    assert infer_over_http(doors, ca=others.root) == (1, 3)
    assert infer_over_grpc(doors.grpc, ca=others.root) == grpc.StatusCode.OK
    with pytest.raises(UnavailableError):
        infer_over_http(doors, ca=ours.root)


def test_a_root_that_is_taken_out_of_the_file_admits_nobody_any_more(open_doors, pair_spec, ours, others, tmp_path):
    cert, key = ours.issue("127.0.0.1")
    roots = tmp_path / "roots.pem"
    roots.write_bytes(ours.root.read_bytes() + others.root.read_bytes())
    doors = open_doors(pair_spec, doors_from_files(tls_cert=cert, tls_key=key, tls_client_ca=roots))
    ours_shown, others_shown = (
        dict(zip(("ca", "cert", "key"), (ours.root, *authority.issue("a-client")), strict=True))
        for authority in (ours, others)
    )
    assert infer_over_http(doors, **others_shown) == (1, 3)
    roots.write_bytes(ours.root.read_bytes())
    doors.certificates.refresh()
    assert infer_over_http(doors, **ours_shown) == (1, 3)
    assert infer_over_grpc(doors.grpc, **ours_shown) == grpc.StatusCode.OK
    with pytest.raises(UnavailableError):
        infer_over_http(doors, **others_shown)
    assert infer_over_grpc(doors.grpc, **others_shown) == grpc.StatusCode.UNAVAILABLE


def test_files_that_cannot_be_used_are_named(ours, others, tmp_path):
    cert, key = ours.issue("127.0.0.1")
    _, wrong_key = others.issue("127.0.0.1")
    nothing, text, encrypted = tmp_path / "nothing", tmp_path / "text", tmp_path / "encrypted"
    text.write_text("no PEM")
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    way = serialization.BestAvailableEncryption(b"secret")
    encrypted.touch(mode=0o600)
    encrypted.write_bytes(loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, way))
    readable = tmp_path / "readable"
    readable.write_bytes(key.read_bytes())
    readable.chmod(0o644)
    for files, sentence in (
        ((cert, wrong_key), "is no certificate for the key"),
        ((nothing, key), f"{nothing}: cannot be read"),
        ((cert, nothing), f"{nothing}: cannot be read"),
        ((text, key), f"{text}: is no certificate"),
        ((cert, key, text), f"{text}: holds no certificates"),
        ((cert, key, nothing), f"{nothing}: cannot be read"),
        ((cert, encrypted), f"{encrypted}: is encrypted"),
        ((cert, readable), f"run: chmod 600 {readable}"),
    ):
        with pytest.raises(CredentialError) as error:
            Certificates(Tls(*map(str, files)))
        assert sentence in str(error.value)
    for shown in (Credentials(ca=str(text)), Credentials(cert=str(cert), key=str(wrong_key))):
        with pytest.raises(CredentialError, match="give certificates and key in PEM"):
            Client("https://127.0.0.1:1", credentials=shown)


def test_an_arrow_stream_goes_both_ways_at_once_over_mutual_tls(mutual, ours, others):
    cert, key = others.issue("somebody")
    rows = np.random.default_rng(0).normal(size=(50_000, 2)).astype(np.float32)
    table = pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 2)})
    shown = Credentials(token=TOKEN, ca=str(ours.root), cert=str(cert), key=str(key))
    with Client(mutual.http, credentials=shown, model="pair") as client:
        answers = np.concatenate(
            [answer.batch.column("fused").flatten().to_numpy() for answer in client.infer_arrow(table)]
        ).reshape(-1, 3)
        expected = client.infer(x=rows[-100:]).outputs["fused"]
    np.testing.assert_array_equal(answers[-100:], expected)
    assert len(answers) == len(rows)


def test_an_arrow_stream_without_what_the_doors_want_is_refused(mutual, ours, others):
    table = pa.table({"x": pa.array([[1, 2]], pa.list_(pa.float32()))})
    cert, key = others.issue("somebody")
    shown = {"ca": str(ours.root), "cert": str(cert), "key": str(key)}
    for credentials, kind in (
        (Credentials(**shown), UnauthenticatedError),
        (Credentials(token=TOKEN, ca=str(ours.root)), UnavailableError),
        (Credentials(**{**shown, "ca": str(others.root)}), UnavailableError),
    ):
        with Client(mutual.http, credentials=credentials, model="pair") as client, pytest.raises(kind):
            list(client.infer_arrow(table))
