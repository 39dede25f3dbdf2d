"""The command line as a person uses it: every command in a process of its own, against a cluster that it starts."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from quorate.deployments.members.replica import HANDOVER_S
from tests.cluster.support.command_line import Shell
from tests.deployments.support.factories.known import known
from tests.deployments.support.http2_client import ROW, Http2Client
from tests.deployments.support.lines import connect, is_refused
from tests.deployments.support.member_threads import FACTORIES
from tests.deployments.support.slow_ensemble import body, head, message, whole_answer
from tests.deployments.support.waiting import until

pytestmark = pytest.mark.ray

SPEC = """
name: tiny
inputs: {x: {datatype: FP32, shape: [4]}}
classes: [left, right]
members:
  a: {model: "mine:ramp", config: {slope: 1}, inputs: [x], output: logits, resources: {num_gpus: 1, num_cpus: 0.1}}
  b: {model: "mine:ramp", config: {slope: -3}, inputs: [x], output: logits, resources: {num_gpus: 1, num_cpus: 0.1}}
fusion: {rule: weighted_mean, weights: {a: 0.75, b: 0.25}, deadline_s: 5}
"""
SLOW = """
name: slow
inputs: {{x: {{datatype: FP32, shape: [2]}}}}
classes: [red, green, blue]
members:
  m:
    {{model: "known:slow", config: {{shift: 1, switch: "file:{switch}"}}, inputs: [x], output: probabilities,
    resources: {{num_cpus: 0.1}}, max_batch_size: 1}}
fusion: {{rule: mean, deadline_s: 60}}
serving: {{max_batch_size: 1, resources: {{num_cpus: 0.1}}}}
"""
SWEPT_WITHIN_S = 30
FACTORY = """
import numpy as np

def ramp(slope):
    return lambda x: np.stack([slope * x.sum(axis=1), np.zeros(len(x))], axis=1).astype(np.float32)
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shell")
    (folder / "spec.yaml").write_text(SPEC)
    (folder / "mine.py").write_text(FACTORY)
    shell = Shell(folder)
    yield shell
    shell.run("down")


@pytest.fixture(scope="module")
def deployed(shell):
    return shell.json("deploy", "spec.yaml")


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_version_and_the_shells_completion_are_there(shell):
    assert shell.run("--version").startswith("quorate ")
    assert {"--install-completion", "--show-completion"} <= set(shell.run("--help").split())


def test_wrong_usage_ends_with_2_and_a_sentence(shell):
    assert "No such command" in shell.run("fly", code=2)
    assert "Missing option '--input'" in shell.run("query", "tiny", code=2)


def test_a_wrong_spec_ends_with_1_and_starts_nothing(shell):
    (shell.folder / "wrong.yaml").write_text(SPEC.replace("weighted_mean", "weighted_maen"))
    for command in ("validate", "deploy"):
        assert "did you mean 'weighted_mean'?" in shell.run(command, "wrong.yaml", code=1)
    assert "error" in shell.json("validate", "wrong.yaml", code=1)
    assert shell.json("status") == {"ensembles": []}


def test_doors_that_are_not_safe_end_with_1_and_a_sentence_and_start_nothing(shell):
    open_file = shell.folder / "open-tokens"
    open_file.write_text("0123456789abcdef" * 4)
    open_file.chmod(0o644)
    for words, sentence in (
        (["--host", "0.0.0.0"], "0.0.0.0 is reachable from other machines"),
        (["--host", "nowhere.invalid"], "is no address"),
        (["--auth-token-file", "open-tokens"], "run: chmod 600"),
        (["--tls-cert", "cert.pem"], "needs both --tls-cert and --tls-key"),
        (["--tls-cert", "cert.pem", "--tls-key", "key.pem"], "cert.pem: cannot be read"),
    ):
        found = shell.run("deploy", "spec.yaml", *words, code=1)
        assert sentence in found
        assert "0123456789abcdef" not in found
    assert shell.json("status") == {"ensembles": []}


def test_query_and_bench_show_the_token_that_the_doors_want(shell, deployed):
    tokens = shell.folder / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text("fedcba9876543210" * 4)
    np.save(shell.folder / "guarded.npy", np.zeros((1, 4), dtype=np.float32))
    assert shell.json("deploy", "spec.yaml", "--auth-token-file", "tokens")["http"] == deployed["http"]
    asked, shown = ["--input", "guarded.npy", "--url", deployed["http"]], ["--auth-token-file", "tokens"]
    assert "401" in shell.run("query", "tiny", *asked, code=1)
    assert "fused" in shell.json("query", "tiny", *asked, *shown)["outputs"]
    load = ["--rate", "20", "--duration", "1", "--url", deployed["http"]]
    assert shell.json("bench", "tiny", *load, *shown)["errors"] == 0
    shell.json("deploy", "spec.yaml", "--host", "127.0.0.1")  # said anew: on loopback, without tokens
    assert "fused" in shell.json("query", "tiny", *asked)["outputs"]


def test_deploy_says_where_the_ensemble_answers(deployed):
    assert set(deployed) == {"name", "revision", "http", "grpc", "members"}
    assert deployed["members"] == {"a": 1, "b": 1}
    assert listening(int(deployed["http"].rpartition(":")[2]))
    assert listening(int(deployed["grpc"].rpartition(":")[2]))


def test_query_gives_the_fused_rows(shell, deployed):
    rows = np.array([[1, 2, 3, 4], [-1, 0, 0, 0]], dtype=np.float64)
    np.save(shell.folder / "rows.npy", rows)
    answer = shell.json("query", "tiny", "--input", "rows.npy")
    total = rows.sum(axis=1)
    left = 0.75 / (1 + np.exp(-total)) + 0.25 / (1 + np.exp(3 * total))
    np.testing.assert_allclose(answer["outputs"]["fused"], np.stack([left, 1 - left], axis=1), atol=1e-6)
    assert answer["parameters"]["revision"] == deployed["revision"]
    shown = shell.run("query", "tiny", "--input", "rows.npy")
    assert "left" in shown
    assert "right" in shown


def test_a_question_that_does_not_fit_ends_with_1_and_a_sentence(shell, deployed):
    np.save(shell.folder / "narrow.npy", np.zeros((1, 3), dtype=np.float32))
    refused = shell.run("query", "tiny", "--input", "narrow.npy", code=1)
    assert "narrow.npy: column 'x' has rows of shape [3], the model reads [4]" in refused
    assert "no ensemble 'other' runs here" in shell.run("query", "other", "--input", "narrow.npy", code=1)


def test_status_shows_replicas_on_different_gpus(shell, deployed):
    (ensemble,) = shell.json("status")["ensembles"]
    assert ensemble["revision"] == deployed["revision"]
    gpus = {member: replicas[0]["gpu_ids"] for member, replicas in ensemble["members"].items()}
    assert len(gpus["a"]) == len(gpus["b"]) == 1
    assert gpus["a"] != gpus["b"]
    assert "tiny" in shell.run("status")


def test_deploying_again_with_other_weights_restarts_nothing_and_rolls_back(shell, deployed):
    def pids():
        (ensemble,) = shell.json("status")["ensembles"]
        return {member: replicas[0]["pid"] for member, replicas in ensemble["members"].items()}

    before = pids()
    (shell.folder / "other.yaml").write_text(SPEC.replace("a: 0.75, b: 0.25", "a: 0.5, b: 0.5"))
    again = shell.json("deploy", "other.yaml")
    assert again["http"] == deployed["http"]
    assert again["revision"] != deployed["revision"]
    assert pids() == before
    assert shell.json("rollback", "tiny")["revision"] == deployed["revision"]


def test_a_shadow_is_compared_with_what_answers_judged_by_labels_and_promoted(shell, deployed):
    (shell.folder / "steeper.yaml").write_text(SPEC.replace("{slope: -3}", "{slope: -4}"))
    assert "say for which share of the requests: --share 5%" in shell.run("shadow", "tiny", "steeper.yaml", code=1)
    (shell.folder / "other.yaml").write_text(SPEC.replace("a: 0.75, b: 0.25", "a: 0.5, b: 0.5"))
    added = shell.json("shadow", "tiny", "other.yaml")
    (one,) = added["shadows"]
    assert (added["live"], added["doors"], one["refused"]) == (deployed["revision"], 1, "")
    assert "is a shadow already" in shell.run("shadow", "tiny", "other.yaml", code=1)
    assert "it is live" in shell.run("shadow", "tiny", "spec.yaml", code=1)
    np.save(shell.folder / "asked.npy", np.zeros((3, 4), dtype=np.float32))
    shell.json("query", "tiny", "--input", "asked.npy")
    until(lambda: shell.json("shadow", "tiny")["shadows"][0]["rows"] == 3)
    report = shell.json("shadow", "tiny", "--report")
    assert "nothing is recorded" in report["unlabelled"]
    assert one["shadow"] in shell.run("shadow", "tiny", "--report")
    assert "are for --promote" in shell.run("shadow", "tiny", "--canary", "5%", "--canary-seconds", "3", code=2)
    assert "it is no shadow" in shell.run("shadow", "tiny", "--remove", "fffffffff", code=1)
    promoted = shell.json("shadow", "tiny", "--promote", one["shadow"])
    assert (promoted["live"], promoted["shadows"]) == (one["shadow"], [])
    assert shell.json("rollback", "tiny")["revision"] == deployed["revision"]


def test_a_shadow_asks_members_of_its_own_for_a_share_of_the_requests(shell, deployed):
    third = SPEC.replace("  b:", "  c:").replace("a: 0.75, b:", "a: 0.75, c:").replace("slope: -3", "slope: -4")
    before, _, own = third.partition("  c:")
    (shell.folder / "third.yaml").write_text(f"{before}  c:{own.replace('num_gpus: 1, ', '')}")
    added = shell.json("shadow", "tiny", "third.yaml", "--share", "100%")
    assert added["did"].endswith("is a shadow of tiny; c is asked by it alone, for 100% of the requests")
    np.save(shell.folder / "asked.npy", np.zeros((3, 4), dtype=np.float32))
    shell.json("query", "tiny", "--input", "asked.npy")
    until(lambda: shell.json("shadow", "tiny")["shadows"][0]["rows"] == 3)
    (one,) = shell.json("shadow", "tiny")["shadows"]
    (asked,) = one["asked"]
    assert (one["share"], asked["member"], asked["rows"], asked["failed"]) == (1.0, "c", 3, 0)
    assert "members that shadows ask" in shell.run("shadow", "tiny")
    (ensemble,) = shell.json("status")["ensembles"]
    assert sorted(ensemble["members"]) == ["a", "b"]
    assert shell.json("shadow", "tiny", "--remove", one["shadow"])["shadows"] == []


def test_bench_measures_what_comes_back(shell, deployed):
    closed = shell.json("bench", "tiny", "--clients", "2", "--duration", "1")
    assert closed["requests"] > 0
    assert closed["errors"] == closed["degraded"] == 0
    assert 0 < closed["p50_ms"] <= closed["p99_ms"] <= closed["max_ms"]
    opened = shell.json("bench", "tiny", "--rate", "20", "--duration", "1")
    assert opened["requests"] == pytest.approx(20, abs=1)
    assert "answers/s" in shell.run("bench", "tiny", "--rate", "20", "--duration", "1")


def test_python_sees_what_the_command_line_deployed_and_prints_nothing(shell, deployed):
    code = """
import sys, quorate
ensemble = quorate.connect("tiny")
answer = ensemble.infer(x=[[1, 2, 3, 4]], deadline_ms=4000)
assert answer.classes == ("left", "right") and "left" in answer._repr_html_()
again = quorate.deploy("spec.yaml", on_step=lambda step: None)
assert (again.url, again.members) == (ensemble.url, {"a": 1, "b": 1})
found = quorate.status()
assert found["tiny"].url == ensemble.url and "RAY_AUTH_TOKEN_PATH" not in __import__("os").environ
assert quorate.plan("spec.yaml").fits
"""
    user = Shell(shell.folder)
    del user.env["RAY_AUTH_MODE"]
    done = user.python(code)
    assert (done.stdout, done.stderr) == ("", "")
    assert deployed["name"] in shell.run("status")


def test_a_thread_of_serve_that_outlives_the_connection_starts_no_ray(shell, deployed):
    code = """
import threading, quorate
quorate.deploy("spec.yaml", on_step=lambda step: None)
import ray
task = ray.remote(num_cpus=0)(lambda: None)
thread = threading.Thread(target=task.remote)
threading.excepthook = lambda failed: print(failed.exc_value)
thread.start()
thread.join()
assert not ray.is_initialized()
"""
    done = shell.python(code)
    assert done.stderr == ""
    assert "has not been started" in done.stdout


def test_plan_says_why_a_member_has_no_place(shell, deployed):
    (shell.folder / "large.yaml").write_text(SPEC.replace("num_gpus: 1,", "num_gpus: 64,", 1))
    placed = shell.json("plan", "large.yaml", code=1)
    assert "needs 64 GPUs" in json.dumps(placed)
    assert "no place for a: needs 64 GPUs" in shell.run("deploy", "large.yaml", code=1)


def test_down_leaves_no_process_port_socket_or_file(shell):
    if not (shell.folder / "home" / "local.json").exists():
        shell.json("deploy", "spec.yaml")
    shared_memory = set(os.listdir("/dev/shm"))
    state = json.loads((shell.folder / "home" / "local.json").read_text())
    host = psutil.Process(state["pid"])
    (ensemble,) = shell.json("status")["ensembles"]
    workers = [psutil.Process(replica["pid"]) for replicas in ensemble["members"].values() for replica in replicas]
    server = workers[0].parent()
    assert server is not None
    family = [host, *host.children(recursive=True), *workers, server]
    ports = [int(door.rpartition(":")[2]) for door in (*ensemble["http"], *ensemble["grpc"])]
    assert len(family) > 3
    assert [listening(port) for port in ports] == [True, True]
    shell.run("down")
    left = [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert left == []
    assert not Path(state["folder"]).exists()
    assert not (shell.folder / "home" / "local.json").exists()
    assert [listening(port) for port in ports] == [False, False]
    assert set(os.listdir("/dev/shm")) <= shared_memory
    assert shell.run("down").strip() == "nothing was running"


def test_a_cluster_whose_host_was_killed_is_swept_away(shell):
    shared_memory = set(os.listdir("/dev/shm"))
    shell.json("deploy", "spec.yaml")
    state = json.loads((shell.folder / "home" / "local.json").read_text())
    host = psutil.Process(state["pid"])
    (ensemble,) = shell.json("status")["ensembles"]
    workers = [psutil.Process(replica["pid"]) for replicas in ensemble["members"].values() for replica in replicas]
    family = [*host.children(recursive=True), *workers]
    ports = {found.laddr.port for p in family for found in p.net_connections("tcp") if found.status == "LISTEN"}
    assert len(ports) > 5
    host.kill()
    host.wait(10)
    psutil.wait_procs(family, timeout=3)
    began = time.monotonic()
    assert shell.json("status") == {"ensembles": []}
    assert time.monotonic() - began < SWEPT_WITHIN_S
    assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not Path(state["folder"]).exists()
    assert not [port for port in ports if listening(port)]
    assert set(os.listdir("/dev/shm")) <= shared_memory


def test_foreground_serves_until_it_is_told_to_stop_and_answers_what_came_in(tmp_path):
    """Most of it waits in the door's queue as the signal comes: the member may not leave before the door has closed."""
    held = HeldMember(tmp_path)
    front = Shell(tmp_path)
    command = [sys.executable, "-c", "from quorate.cluster.cli.main import main; main()"]
    words = ["deploy", "slow.yaml", "--foreground", "--json"]
    process = subprocess.Popen(
        [*command, *words], cwd=tmp_path, env=front.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        doors = json.loads(process.stdout.readline())
        assert [e["name"] for e in front.json("status")["ensembles"]] == ["slow"]
        with contextlib.ExitStack() as stack:
            lines = [stack.enter_context(connect(doors["http"])) for _ in range(20)]
            calls = [stack.enter_context(Http2Client(doors["grpc"])) for _ in range(20)]
            for line in lines:
                line.sendall(head(len(body())) + body())
                assert whole_answer(line)["parameters"]["degraded"] is False
            for client in calls:
                assert client.status(client.call(message()))[0] == 0
            came = batched_and_queued(doors["http"])
            held.take("hold")
            for line in lines[:10]:
                line.sendall(head(len(body())) + body())
            streams = [client.call(message()) for client in calls[:10]]
            for client in calls[:10]:
                client.flush()
            until(lambda: batched_and_queued(doors["http"]) == came + 20)
            process.terminate()
            until(lambda: is_refused(doors["http"]) and is_refused(doors["grpc"]))
            for line in lines[10:]:
                assert line.recv(1) == b""
            time.sleep(2 * HANDOVER_S)  # a member that was told to leave with the door would be gone by now
            held.take(0)
            for line in lines[:10]:
                answer = whole_answer(line)
                assert answer["parameters"]["degraded"] is False
                np.testing.assert_allclose(answer["outputs"][0]["data"], held.right, atol=1e-6)
            assert [client.status(stream)[0] for client, stream in zip(calls, streams, strict=False)] == [0] * 10
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()
    assert process.returncode == 0
    assert front.json("status") == {"ensembles": []}


class HeldMember:
    """A spec ``slow.yaml`` in a folder: one member, which answers row by row, or holds all of them.

    Attributes:
        right: what it answers.
    """

    right = known(1)(ROW)[0]

    def __init__(self, folder):
        self._switch = folder / "switch"
        self.take(0)
        shutil.copy(FACTORIES / "known.py", folder)
        (folder / "slow.yaml").write_text(SLOW.format(switch=self._switch))

    def take(self, seconds):
        """Until it is told otherwise, so many for a row, or "hold"."""
        self._switch.write_text(str(seconds))


def batched_and_queued(url):
    """Rows that have come in so far."""
    text = httpx.get(f"{url}/metrics", timeout=60).text
    found = re.findall(r"^quorate_(?:batch_rows_sum|queued_rows)[{].*[}] (.+)$", text, re.MULTILINE)
    assert len(found) == 2
    return sum(map(float, found))
