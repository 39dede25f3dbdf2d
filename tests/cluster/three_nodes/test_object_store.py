"""A bucket behind S3's own protocol: nodes have files out of it, with credentials that nothing writes down."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.cluster.three_nodes.cluster import PLACES, ThreeNodes
from tests.cluster.three_nodes.machine import ROOT, address, wait_for, why_not
from tests.cluster.three_nodes.oracle import WEIGHTS, ensemble
from tests.cluster.three_nodes.travelling import Travelling

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SERVERS = ROOT / ".venv-stores" / "bin" / "moto_server"
SECRET = "hush-of-the-bucket"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAOFTHETESTS", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true",
}  # fmt: skip
S3 = f"{address(254)}:9000"
STORE = f"s3://bucket/models?endpoint_override={S3}&scheme=http&region=us-east-1"
RECORD = f"s3://bucket/record?endpoint_override={S3}&scheme=http&region=us-east-1"
_MAKE = f"""
from pyarrow import fs
fs.S3FileSystem(endpoint_override="{S3}", scheme="http", allow_bucket_creation=True).create_dir("bucket")
"""
_EMPTY = f"""
from pyarrow import fs
fs.S3FileSystem(endpoint_override="{S3}", scheme="http").delete_dir_contents("bucket/models")
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """A cluster with a dashboard whose nodes have the credentials in their environment."""
    if problem := why_not():
        pytest.skip(problem)
    if not SERVERS.exists():
        pytest.skip("a server of S3's protocol is not installed: make test-stores")
    with ThreeNodes(tmp_path_factory.mktemp("object_store"), CREDENTIALS, dashboard=True) as nodes:
        yield nodes


class Bucket:
    """The server's log, and changes of what it has."""

    def __init__(self, nodes):
        self._nodes, self._log = nodes, nodes.folder / "s3.log"
        with self._log.open("wb") as log:
            command = nodes.outside.command(str(SERVERS), "-H", "0.0.0.0", "-p", "9000")
            self._server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_for(lambda: "Running on" in self._log.read_text(), "the server is up", 60)
        self.do(_MAKE)

    def do(self, code):
        self._nodes.outside.run(sys.executable, "-c", code, env={**self._nodes._env, **CREDENTIALS})

    def asked(self, method):
        """Who asked the server for objects in this way, as often as they did."""
        # The server colours the lines of answers that are not all of an object.
        lines = [line.split() for line in self._log.read_text().splitlines() if f"{method} /bucket/models/" in line]
        return [line[0] for line in lines]

    def stop(self):
        self._server.kill()
        self._server.wait()


@pytest.fixture(scope="module")
def bucket(nodes):
    bucket = Bucket(nodes)
    yield bucket
    bucket.stop()


@pytest.fixture(scope="module")
def operator(nodes):
    return nodes.operator()


def deploy(nodes, operator, found):
    (operator.disk / found.name / "spec.json").write_text(json.dumps(found.spec()))
    words = ("deploy", f"{found.folder}/spec.json", "--store", STORE, "--host", "0.0.0.0", "--insecure", "--json")
    process = nodes.quorate_from(operator, *words)
    printed, errors = process.communicate(timeout=240)
    assert process.returncode == 0, printed + errors
    return json.loads(printed)


def lose_all_files(nodes):
    for node in nodes.nodes.values():
        for kept in (node.disk / "ray").glob("session_*/quorate/kept"):
            shutil.rmtree(kept)


def kill_members(nodes, name):
    for place in PLACES:
        for pid in nodes.nodes[place].pids(f"ray::ServeReplica:{name}.a"):
            nodes.nodes[place].signal(pid)


def test_what_no_node_has_any_more_comes_out_of_the_bucket_and_then_is_missing_in_words(nodes, operator, bucket, seed):
    found = Travelling(operator, "stored", 12 << 20)
    deployed = deploy(nodes, operator, found)
    written = bucket.asked("PUT")
    assert set(written) == {address(4)}  # the operator's machine
    assert deploy(nodes, operator, found)["revision"] == deployed["revision"]
    assert bucket.asked("PUT") == written
    found.delete()
    read = len(bucket.asked("GET"))
    lose_all_files(nodes)
    with nodes.asking(deployed, "stored", {deployed["revision"]: WEIGHTS}, seed) as asking:
        asking.answered(20)
        kill_members(nodes, "stored")
        asking.full_again()
    asking.report.assert_safe()
    assert set(bucket.asked("GET")[read:]) <= set(map(address, PLACES))
    assert len(bucket.asked("GET")) > read

    bucket.do(_EMPTY)
    lose_all_files(nodes)
    kill_members(nodes, "stored")

    def status():
        return nodes.quorate_from(operator, "status", "--json").communicate(timeout=120)[0]

    wait_for(lambda: "is missing on this node" in status(), "it is said", 180)
    assert "words/all.bin" in status()


def test_labels_that_doors_put_into_the_bucket_are_learned_from_once_and_weights_go_live(nodes, bucket):
    spec = {
        **ensemble("taught", {"a": 0.9, "b": 0.05, "c": 0.05}), "record": {"folder": RECORD},
        "online": {"mode": "live", "publish_every": "1s"},
    }  # fmt: skip
    port = nodes.driver().do("deploy", spec=spec, takes_labels=True)["http"].rpartition(":")[2]
    doors = [f"http://{address(place)}:{port}" for place in PLACES]
    # Each label comes to another door than the one that gave the answer.
    taught = nodes.driver().do("teach", name="taught", doors=doors, answers=30, seed=0, member=2)
    assert {verdict: count for verdict, count in taught.items() if count} == {"accepted": 600}

    def learned():
        return nodes.driver().do("learned", name="taught") or {"labels": 0, "published": 0}

    wait_for(lambda: learned()["labels"] == 600, "all labels are learned from", 240)
    wait_for(lambda: learned()["published"] > 0, "weights go live", 120)
    weights = nodes.driver().do("fusion", name="taught")[0]["spec"]["fusion"]["weights"]
    assert weights["c"] > weights["a"]
    assert learned()["labels"] == 600
    nodes.driver().do("down", name="taught")


def test_nothing_has_written_the_secret_down(nodes, operator, bucket):
    """After the tests above: the clusters' records, what all processes are called, and every file of every machine."""
    for machine in (operator, *nodes.nodes.values()):
        assert not [line for line in machine.processes().values() if SECRET in line]
        for path in machine.disk.rglob("*"):
            if path.is_file() and not path.is_symlink():
                assert SECRET.encode() not in path.read_bytes(), path
    kept = nodes.driver().do("kept")
    assert any("s3://bucket/models" in value for value in kept.values())
    assert not [key for key, value in kept.items() if SECRET in value]
    nodes.driver().do("down", name="stored")
