"""A manifest's ``serveConfigV2``, handed to Serve as the dashboard hands it what KubeRay sends: the ensemble runs."""

import base64
import json
import secrets
import socket
import ssl
from pathlib import Path

import httpx
import psutil
import pytest
import trustme

from quorate.deployments.control.serve.ensemble_application import ensemble
from quorate.deployments.errors import DeployError
from tests.deployments.support.waiting import until

FACTORIES = Path(__file__).parents[1] / "support" / "factories"
NAME = "applied"
OLD, NEW = (secrets.token_hex(32) for _ in range(2))


def spec(shift=1, deadline_s=5.0):
    member = {
        "model": "known:known", "config": {"shift": shift}, "inputs": ["x"], "output": "values",
        "resources": {"num_cpus": 0.1},
    }  # fmt: skip
    inputs = {"x": {"datatype": "FP32", "shape": [2]}}
    fusion = {"rule": "mean", "deadline_s": deadline_s}
    return {"name": NAME, "inputs": inputs, "members": {"m": member}, "fusion": fusion}


class Applied:
    """What KubeRay does with a manifest, as far as Serve is concerned."""

    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            self._ports = one.getsockname()[1], two.getsockname()[1]
        self.tokens = folder / "tokens"
        self.tokens.touch(mode=0o600)
        self.tokens.write_text(OLD)
        self.url = f"http://127.0.0.1:{self._ports[0]}"

    def apply(self, spec, target_capacity=None, **changes):
        """As PUT /api/serve/applications/ does; KubeRay raises ``target_capacity`` in steps where a Gateway is used."""
        from ray.serve.schema import ServeDeploySchema

        import quorate

        made = quorate.manifest(
            spec, folder=FACTORIES, models=str(FACTORIES), http_port=self._ports[0], grpc_port=self._ports[1]
        )
        config = json.loads(made.objects[0]["spec"]["serveConfigV2"])
        arguments = config["applications"][0]["args"]
        assert not Path(arguments["auth_token_file"]).exists()  # where the Secret would be mounted
        arguments |= {"auth_token_file": str(self.tokens), "host": "127.0.0.1", "timeout_s": 60} | changes
        config["target_capacity"] = target_capacity
        self._client().deploy_apps(ServeDeploySchema.model_validate(config))

    def take_away(self):
        from ray.serve.schema import ServeDeploySchema

        self._client().deploy_apps(ServeDeploySchema(applications=[]))

    def state(self):
        """What KubeRay reads: of the applications of a file alone, with the words of their deployments."""
        import ray

        details = ray.get(self._client()._controller.get_serve_instance_details.remote())
        found = details["applications"][f"quorate-{NAME}"]
        return found["status"], " ".join(part["message"] for part in found["deployments"].values())

    def runs(self):
        until(lambda: self.state()[0] in ("RUNNING", "DEPLOY_FAILED"), 120)
        assert self.state()[0] == "RUNNING", self.state()

    def ask(self, token=OLD):
        rows = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, -1.0]}]}
        headers = {"authorization": f"Bearer {token}"}
        return httpx.post(f"{self.url}/v2/models/{NAME}/infer", json=rows, headers=headers, timeout=20)

    def revision(self):
        return self.ask().json()["parameters"]["revision"]

    @staticmethod
    def _client():
        from ray.serve.context import _get_global_client

        return _get_global_client()


@pytest.fixture
def applied(cluster, tmp_path):
    from quorate.deployments.control.deploy import delete
    from quorate.deployments.control.describe import ensembles

    yield (made := Applied(tmp_path))
    made.take_away()
    if NAME in ensembles():
        delete(NAME)


def test_the_ensemble_runs_when_its_application_does_and_follows_manifest_and_token_file(applied):
    applied.apply(spec())
    applied.runs()
    assert httpx.get(f"{applied.url}/-/healthz").text == "success"
    assert httpx.get(f"{applied.url}/v2").status_code == 401
    assert applied.ask().json()["outputs"][0]["data"]
    first = applied.revision()

    applied.apply(spec(deadline_s=4.0))
    until(lambda: applied.revision() != first)
    applied.runs()

    applied.tokens.write_text(NEW)
    until(lambda: applied.ask(NEW).status_code == 200)
    assert applied.ask(OLD).status_code == 401


def everything_that_can_be_read(ray):
    """Command lines of all processes, Ray's logs, and what is recorded, of this cluster."""
    from ray.experimental import internal_kv

    for process in psutil.process_iter(["cmdline"]):
        yield "command lines", " ".join(process.info["cmdline"] or ()).encode()
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    for path in session.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield "files", path.read_bytes()
    for namespace in (None, b"quorate", b"serve"):
        for key in internal_kv._internal_kv_list(b"", namespace=namespace):
            yield f"records {key!r}", internal_kv._internal_kv_get(key, namespace=namespace) or b""


def assert_is_nowhere(ray, *planted):
    seen: dict[str, int] = {}
    for where, content in everything_that_can_be_read(ray):
        place = where.partition(" b")[0]
        seen[place] = seen.get(place, 0) + len(content)
        for secret in planted:
            assert secret.encode() not in content, where
            assert base64.b64encode(secret.encode()).rstrip(b"=")[:40] not in content, where
    assert min(seen.values()) > 1000
    assert seen.keys() == {"command lines", "files", "records"}


def test_no_token_and_no_key_of_the_doors_is_in_any_process_log_record_or_answer(applied, cluster, tmp_path):
    import quorate

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key, root = (tmp_path / name for name in ("tls.crt", "tls.key", "ca.crt"))
    authority.cert_pem.write_to_path(root)
    key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(certificate)
    inside = key.read_text().splitlines()[3]  # a line of it, in base64
    applied.apply(spec(shift=2), tls_cert=str(certificate), tls_key=str(key))
    applied.runs()
    url = applied.url.replace("http:", "https:")
    trusted = ssl.create_default_context(cafile=str(root))
    for shown in (OLD, NEW, OLD[:-1]):
        headers = {"authorization": f"Bearer {shown}"}
        answer = httpx.get(f"{url}/v2/models/{NAME}", headers=headers, verify=trusted, timeout=20).text
        assert shown not in answer
    assert_is_nowhere(cluster, OLD, NEW, inside)
    told = [quorate.status().to_dict(), quorate.plan(spec(), folder=FACTORIES).to_dict(), applied.state()]
    told.append(quorate.manifest(spec(), folder=FACTORIES, tls_secret="certificate").to_dict())
    assert OLD not in repr(told)
    assert inside not in repr(told)


def sooner(record):
    """The spec with another deadline, as somebody publishes it over the network."""
    return record.live.spec.model_copy(
        update={"fusion": record.live.spec.fusion.model_copy(update={"deadline_s": 3.0})}
    )


@pytest.mark.slow
def test_what_was_published_since_outlives_a_restart_and_what_is_refused_changes_nothing(applied):
    import ray

    from quorate.deployments.control.publish import publish

    applied.apply(spec())
    applied.runs()
    first = applied.revision()
    publish(NAME, sooner)
    until(lambda: applied.revision() != first)
    published = applied.revision()
    before = ray.get(applied._client()._controller.get_serve_instance_details.remote())
    replica = before["applications"][f"quorate-{NAME}"]["deployments"]["ensemble"]["replicas"][0]
    applied.tokens.write_text(f"{OLD}\n{NEW}")
    ray.kill(ray.get_actor(replica["actor_name"], namespace="serve"))

    def restarted():
        now = ray.get(applied._client()._controller.get_serve_instance_details.remote())
        replicas = now["applications"][f"quorate-{NAME}"]["deployments"]["ensemble"]["replicas"]
        return any(one["state"] == "RUNNING" and one["replica_id"] != replica["replica_id"] for one in replicas)

    until(restarted, 120)
    applied.runs()
    assert applied.revision() == published
    until(lambda: applied.ask(NEW).status_code == 200)

    applied.apply(spec(shift="no number"))
    until(lambda: applied.state()[0] == "DEPLOY_FAILED", 180)
    assert "m did not start" in applied.state()[1] or "members.m" in applied.state()[1]
    assert "Traceback" not in applied.state()[1].splitlines()[-1]
    assert applied.revision() == published


@pytest.mark.slow
def test_a_cluster_that_takes_over_in_steps_deploys_at_the_first_and_is_whole_from_then_on(applied):
    from quorate.deployments.control.describe import ensembles

    applied.apply(spec(shift=3), target_capacity=0)
    until(lambda: applied.state()[0] == "RUNNING")
    assert NAME not in ensembles()
    applied.apply(spec(shift=3), target_capacity=10)
    until(lambda: NAME in ensembles() and applied.state()[0] == "RUNNING", 120)
    assert httpx.get(f"{applied.url}/-/healthz").text == "success"
    first = applied.revision()
    applied.apply(spec(shift=3), target_capacity=100)
    applied.runs()
    assert applied.revision() == first


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"folder": "/models"}, "args.spec of the application: Field required; see docs/kubernetes.md"),
        (
            {"spec": {}, "folder": "/m", "token": "x"},
            "args.token of the application: Extra inputs are not permitted; see docs/kubernetes.md",
        ),
    ],
)
def test_arguments_that_are_none_are_told_without_their_values(arguments, sentence):
    with pytest.raises(DeployError) as error:
        ensemble(arguments)
    assert str(error.value) == sentence
