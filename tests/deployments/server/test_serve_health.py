"""``GET /-/healthz`` says ``success`` exactly while a quorum can answer: KubeRay's probes and Services go by it."""

import shutil
import subprocess
import threading

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2

from quorate.deployments import Doors as DoorSettings
from quorate.deployments import parse_spec
from quorate.deployments.engine.engine import Engine
from quorate.deployments.security.access import Doorkeeper
from quorate.deployments.server import fusion_server
from quorate.deployments.server.fusion_server import FusionServer, Served, ServerSettings
from tests.deployments.support.lines import connect, is_refused
from tests.deployments.support.member_threads import FACTORIES, MemberThreads
from tests.deployments.support.slow_ensemble import Slow, body, head, whole_answer
from tests.deployments.support.waiting import until

# BaseWgetHealthCommand of ray-operator/controllers/ray/utils/constant.go (KubeRay v1.7), with the time-out and the path
# that pod.go gives a RayService's workers; it runs in `bash -c`.
KUBERAY_PROBE = "wget --tries 1 -T 10 -q -O- http://localhost:{port}/-/healthz | grep success"


def kuberay_says_ready(port):
    command = ["bash", "-c", KUBERAY_PROBE.format(port=port)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def kuberay_labels_the_head(url):
    """As CheckProxyActorHealth of httpproxy_httpclient.go, which decides about the head's pod."""
    return httpx.get(f"{url}/-/healthz", timeout=20).status_code == 200


@pytest.fixture
def wget():
    if shutil.which("wget") is None:
        pytest.skip("KubeRay's probe is a command of wget, which is not installed")


def test_kuberays_own_probes_succeed_when_a_quorum_takes_calls_and_not_before(pair_spec, tmp_path, monkeypatch, wget):
    monkeypatch.setattr(fusion_server, "MEMBERS_TIMEOUT_S", 0.1)
    spec = parse_spec({**pair_spec, "name": "warm", "fusion": {**pair_spec["fusion"], "quorum": 2}})
    members, hooks = MemberThreads(spec, tmp_path), {}

    def find(app, on_replicas):
        hooks[app] = on_replicas
        return lambda: None

    settings = ServerSettings("127.0.0.1", 0, 0, Doorkeeper(DoorSettings()))
    server = FusionServer(settings, lambda s: Engine(s.spec, s.folder, "here", apps=s.apps), find)
    server.start(Served(spec, FACTORIES, {name: name for name in spec.members}))
    url = f"http://127.0.0.1:{server.http_port}"
    assert not kuberay_says_ready(server.http_port)
    members.find("a", hooks["a"])  # one of two is no quorum
    until(lambda: server.engine.ready()["a"])
    assert not kuberay_says_ready(server.http_port)
    assert not kuberay_labels_the_head(url)
    members.find("b", hooks["b"])
    until(server.service.ready)
    assert kuberay_says_ready(server.http_port)
    assert kuberay_labels_the_head(url)
    assert httpx.get(f"{url}/-/healthz").text == "success"

    members.stop("b")
    until(lambda: not server.service.ready())
    reply = httpx.get(f"{url}/-/healthz")
    assert reply.status_code == 503
    assert "success" not in reply.text
    assert not kuberay_says_ready(server.http_port)
    server.stop()
    members.stop()


def test_a_door_that_closes_is_not_ready_while_it_answers_what_came_in(open_doors, tmp_path, monkeypatch, wget):
    monkeypatch.setattr(fusion_server, "GRACE_S", 30)
    slow = Slow(open_doors, tmp_path)
    port = slow.doors.server.http_port
    assert kuberay_says_ready(port)
    with connect(slow.doors.http) as line, grpc.insecure_channel(slow.doors.grpc) as channel:
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        slow.take("hold")
        line.sendall(head(len(body())) + body())
        until(lambda: slow.doors.engine.unanswered_batches)
        stopping = threading.Thread(target=slow.doors.server.stop)
        stopping.start()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        until(lambda: is_refused(slow.doors.http))
        assert not kuberay_says_ready(port)
        slow.take(0)
        assert whole_answer(line)["outputs"] == slow.right["outputs"]
        watch.cancel()
    stopping.join()


def test_head_asks_without_a_body_and_other_methods_are_refused(pair):
    assert httpx.head(f"{pair.http}/-/healthz").status_code == 200
    assert httpx.post(f"{pair.http}/-/healthz").status_code == 405
