"""What a default start lets others do: it listens on loopback alone, and Ray answers nobody who has not its token."""

import contextlib
import ipaddress
import json
import re
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from quorate.cluster.local.state import LocalCluster, belongs
from quorate.deployments.security.doors import outward_address
from tests.cluster.support.command_line import Shell
from tests.deployments.support.member_threads import FACTORIES

pytestmark = pytest.mark.ray

SPEC = """
name: exposed
inputs: {x: {datatype: FP32, shape: [2]}}
members: {a: {model: "known:known", config: {shift: 1}, inputs: [x], output: values, resources: {num_cpus: 0.1}}}
fusion: {rule: mean}
serving: {resources: {num_cpus: 0.1}}
"""
# What a stranger would ask first: of the head, of a node, and of a worker, to run something.
RPCS = (
    "InternalKVGcsService/InternalKVKeys", "JobInfoGcsService/AddJob", "NodeInfoGcsService/GetAllNodeInfo",
    "ActorInfoGcsService/GetAllActorInfo", "NodeManagerService/RequestWorkerLease", "NodeManagerService/GetNodeStats",
    "CoreWorkerService/PushTask", "CoreWorkerService/GetCoreWorkerStats", "CoreWorkerService/KillActor",
    "ObjectManagerService/Pull", "ReporterService/HealthCheck", "JobAgentService/HealthCheck",
)  # fmt: skip


class Started:
    """A cluster that ``quorate deploy`` has started, as it does where the user has said nothing of Ray.

    Attributes:
        shell: that started it, likewise ``deployed``, what it said.
        cluster: as ``quorate`` finds it.
        token: what it asks of everyone.
        processes: all of its own.
        listening: the addresses and ports at which they can be reached, over TCP and UDP.
    """

    def __init__(self, shell, deployed):
        self.shell, self.deployed = shell, deployed
        self.cluster = LocalCluster(**json.loads((shell.folder / "home" / "local.json").read_text()))
        self.folder = Path(self.cluster.folder)
        self.token = (self.folder / "token").read_text()
        self.processes = [process for process in psutil.process_iter() if belongs(process, self.cluster)]
        sockets = [found for process in self.processes for found in process.net_connections("inet")]
        self.listening = {
            tuple(found.laddr) for found in sockets if found.status == "LISTEN" or found.type == socket.SOCK_DGRAM
        }


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exposed")
    shutil.copy(FACTORIES / "known.py", folder)
    (folder / "spec.yaml").write_text(SPEC)
    shell = Shell(folder)
    del shell.env["RAY_AUTH_MODE"]  # which the tests' own cluster has
    yield Started(shell, shell.json("deploy", "spec.yaml"))
    shell.run("down")


@pytest.mark.parametrize(
    ("mode", "token", "found"),
    [("disabled", "", "False False"), ("token", "b" * 64, "True False"), ("token", "the cluster's", "True True")],
)
def test_the_head_says_at_once_whether_a_token_is_its_own(started, mode, token, found):
    code = "import sys; from quorate.deployments.control.ray_private import on_loopback, reach_head\n"
    code += "with on_loopback(): shown = reach_head(sys.argv[1])\nprint(shown.token, shown.accepted)"
    shown = started.token if token == "the cluster's" else token
    env = {**started.shell.env, "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": shown, "HOME": str(started.shell.folder)}
    words = [sys.executable, "-c", code, started.cluster.address]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == found


def status(port, rpc, **metadata):
    """What a gRPC call without a message comes to at a port of this machine."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            channel.unary_unary(f"/ray.rpc.{rpc}")(b"", metadata=list(metadata.items()), timeout=10)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def is_loopback(host):
    address = ipaddress.ip_address(host)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def test_all_that_listens_does_so_on_loopback(started):
    ports = {port for _, port in started.listening}
    doors = {int(started.deployed[door].rpartition(":")[2]) for door in ("http", "grpc")}
    assert doors < ports  # the search finds what there is
    assert int(started.cluster.address.rpartition(":")[2]) in ports
    assert len(started.processes) > 4
    assert sorted(found for found in started.listening if not is_loopback(found[0])) == []


def submitted(port, **headers):
    """What comes of submitting a job, as to Ray's dashboard and its agents; 0 where nothing takes jobs."""
    found = 0
    for path in ("/api/jobs/", "/api/job_agent/jobs/"):
        with contextlib.suppress(httpx.HTTPError):
            asked = httpx.post(f"http://127.0.0.1:{port}{path}", json={"entry": "true"}, headers=headers, timeout=5)
            found = max(found, asked.status_code if asked.status_code not in (404, 405) else 0)
    return found


def test_no_job_can_be_submitted_without_the_token(started):
    ports = {port for _, port in started.listening}
    found = {port: submitted(port) for port in ports}
    assert set(found.values()) <= {0, 401}
    asks = [port for port, code in found.items() if code == 401]
    assert {submitted(port, authorization=f"Bearer {'0' * 64}") for port in asks} <= {401, 403}
    assert asks


@pytest.mark.parametrize("metadata", [{}, {"authorization": f"Bearer {'0' * 64}"}], ids=["no token", "another token"])
def test_ray_does_nothing_for_who_has_not_the_token(started, metadata):
    gcs = int(started.cluster.address.rpartition(":")[2])
    assert status(gcs, RPCS[0], authorization=f"Bearer {started.token}") == "OK"
    found = {(port, rpc): status(port, rpc, **metadata) for _, port in sorted(started.listening) for rpc in RPCS}
    assert {rpc: found[gcs, rpc] for rpc in RPCS[:4]} == dict.fromkeys(RPCS[:4], "UNAUTHENTICATED")
    refused = {"UNAUTHENTICATED", "UNIMPLEMENTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert {asked: code for asked, code in found.items() if code not in refused} == {}


def test_the_token_is_in_its_file_alone_and_that_is_the_users(started):
    token = started.folder / "token"
    assert re.fullmatch("[0-9a-f]{64}", started.token)
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(started.folder.stat().st_mode) == 0o700
    files = [path for path in started.folder.rglob("*") if path.is_file()]
    assert [path for path in files if started.token.encode() in path.read_bytes()] == [token]
    assert any("gcs_server" in path.name for path in files)
    for process in psutil.process_iter(["cmdline"]):
        assert started.token not in " ".join(process.info["cmdline"] or ())
    told = [process.environ() for process in started.processes]
    assert not [found for found in told if started.token in json.dumps(found)]
    assert any(found.get("RAY_AUTH_TOKEN_PATH") == str(token) for found in told)


def test_doors_that_are_opened_to_others_are_told_by_the_address_that_others_reach(started):
    deployed = started.shell.json("deploy", "spec.yaml", "--host", "0.0.0.0", "--insecure")
    told = httpx.get(f"{deployed['http']}/v2", timeout=60).json()["doors"]
    host = outward_address()
    assert deployed["http"].startswith(f"http://{host}:")
    assert (told["http"], told["grpc"]) == ([deployed["http"].removeprefix("http://")], [deployed["grpc"]])


SWEEPS_OWN = """
import json, os, psutil, ray
from quorate.tuning.ray_session import ray_session
with ray_session():
    worker = ray.get(ray.remote(num_cpus=0)(lambda: os.getpid()).remote())
    processes = [psutil.Process(), *psutil.Process().children(recursive=True), psutil.Process(worker)]
    sockets = [found for process in processes for found in process.net_connections("tcp")]
    print(json.dumps([found.laddr for found in sockets if found.status == "LISTEN"]))
"""


def test_what_a_sweep_starts_where_no_cluster_runs_listens_on_loopback(started):
    done = subprocess.run(
        [sys.executable, "-c", SWEEPS_OWN], env=started.shell.env, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) > 4
    assert [address for address in found if not is_loopback(address[0])] == []
