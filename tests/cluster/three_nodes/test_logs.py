"""``quorate logs`` on three nodes with disks of their own: what members write there is followed from one of them."""

import json
import re
import threading

import pytest

from tests.cluster.three_nodes.cluster import PLACES, ThreeNodes, interrupt
from tests.cluster.three_nodes.machine import DISK, address, wait_for, why_not

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]

CODE = """
def talker():
    print("the vocabulary is there")

    def model(x):
        if (x > 10).any():
            print("about to fail")
            raise KeyError("no such feature")
        return x
    return model
"""
# Of eight CPUs a node: a replica on each.
MEMBER = {
    "model": "talker:talker", "inputs": ["x"], "output": "values", "resources": {"num_cpus": 5},
    "replicas": {"min": 3, "max": 3},
}  # fmt: skip
SPEC = {
    "name": "talking", "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "members": {"m": MEMBER},
    "fusion": {"rule": "mean", "deadline_s": 20.0},
}  # fmt: skip
ADDRESSES = {address(place) for place in PLACES}


class Followed:
    """What a command prints, line by line, as it prints it."""

    def __init__(self, process):
        self.lines, self._process = [], process
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self):
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    def end(self):
        """As Ctrl-C does; the exit code."""
        interrupt(self._process)
        code = self._process.wait(60)
        self._reading.join(60)
        self._process.stdout.close()
        return code

    def wait(self, condition, what, timeout_s=120):
        """Raises AssertionError with all lines where it did not come true."""
        try:
            wait_for(condition, what, timeout_s)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *self.lines])) from None

    def nodes_that_said(self, words):
        """Addresses under whose title a line holds these words."""
        found, node = set(), ""
        for line in list(self.lines):
            title = re.match(r"==> talking m, replica \S+ on (\S+),", line)
            node = title[1] if title else node
            if words in line:
                found.add(node)
        return found


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    """The cluster, with the ensemble on it."""
    problem = why_not()
    if problem:
        pytest.skip(problem)
    with ThreeNodes(tmp_path_factory.mktemp("talking"), env={"QUORATE_HOME": f"{DISK}/home"}) as nodes:
        (nodes.folder / "talker.py").write_text(CODE)
        deployed = nodes.quorate(
            PLACES[0], "deploy", nodes.spec_file(SPEC), "--host", "0.0.0.0", "--insecure", "--json"
        )
        said = deployed.communicate(timeout=300)[0]
        assert deployed.returncode == 0, said
        yield nodes, json.loads(said.splitlines()[-1])


def ask(nodes, port, place, value):
    """One row through a node's door; a failing member is a 503."""
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [value, value]}]}
    url = f"http://{address(place)}:{port}/v2/models/talking/infer"
    nodes.outside.run("curl", "-s", "-m", "30", "-d", json.dumps(body), url)


def test_what_members_on_every_node_write_is_followed_from_one_of_them(talking):
    nodes, deployed = talking
    port = deployed["http"].rpartition(":")[2]
    process = nodes.quorate(PLACES[2], "logs", "talking", "m", "--follow")
    followed = Followed(process)
    followed.wait(lambda: followed.nodes_that_said("the vocabulary is there") == ADDRESSES, "prints of three nodes")
    assert not followed.nodes_that_said("about to fail")

    for place in PLACES:
        ask(nodes, port, place, 11.0)
    followed.wait(lambda: bool(followed.nodes_that_said("KeyError: 'no such feature'")), "the traceback of a request")
    assert followed.nodes_that_said("about to fail")
    assert followed.end() == 130
    assert sum("the vocabulary is there" in line for line in followed.lines) == len(PLACES)

    shown = nodes.quorate(PLACES[1], "logs", "talking", "--since", "1h", "--json").communicate(timeout=120)[0]
    found = json.loads(shown.splitlines()[-1])
    assert {replica["node"] for replica in found["replicas"]} == ADDRESSES
    assert any("about to fail" in replica["text"] for replica in found["replicas"])


def test_replicas_that_start_later_are_followed_too(talking):
    nodes, _ = talking
    process = nodes.quorate(PLACES[0], "logs", "talking", "--follow", "--lines", "1")
    followed = Followed(process)
    followed.wait(lambda: bool(followed.lines), "a first line")
    (pid,) = nodes.nodes[PLACES[1]].pids("ServeReplica:talking.m")[:1]
    nodes.nodes[PLACES[1]].signal(pid)
    followed.wait(lambda: bool(followed.nodes_that_said("the vocabulary is there")), "the replica in its place", 180)
    followed.end()
