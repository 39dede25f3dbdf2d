"""Quorate is upgraded node by node under load: replicas of the last release and of this tree answer as one."""

import io
import subprocess
import sys
import tarfile
from functools import partial

import pytest

from tests.cluster.three_nodes.cluster import HEAD, PLACES, ThreeNodes
from tests.cluster.three_nodes.faults import member_processes, until_done
from tests.cluster.three_nodes.machine import ROOT, address, wait_for, why_not
from tests.cluster.three_nodes.oracle import OTHER_WEIGHTS, WEIGHTS, ensemble

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]

# Stands for the last release, as long as there is none with a tag: the last commit whose wire says no version.
BEFORE, BEFORE_VERSION = "f020bc1", "0.0.9"
QUORATE = "upgraded"


def _git(*words):
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=False)


def _wheel(source, folder):
    """A wheel of a checkout, unpacked into a folder."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder / "wheel")]
    subprocess.run([*pip, "wheel", *options, str(source)], check=True)
    (wheel,) = (folder / "wheel").glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "installed"), str(wheel)], check=True)
    return folder / "installed"


@pytest.fixture(scope="module")
def last_release(tmp_path_factory):
    """Where the last release is installed."""
    tag = _git("describe", "--tags", "--abbrev=0", "--match", "v*").stdout.decode().strip()
    packed = _git("archive", tag or BEFORE)
    if packed.returncode:
        pytest.skip(f"this checkout has no history: {packed.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("release")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder / "source", filter="data")
    if not tag:
        project = folder / "source" / "pyproject.toml"
        project.write_text(project.read_text().replace('version = "0.1.0"', f'version = "{BEFORE_VERSION}"', 1))
    return _wheel(folder / "source", folder)


@pytest.fixture
def nodes(last_release, tmp_path):
    """Three nodes on which the last release is installed; clients have this tree's."""
    problem = why_not()
    if problem:
        pytest.skip(problem)
    cluster = ThreeNodes(tmp_path)
    cluster.own = {place: {"PYTHONPATH": str(last_release)} for place in PLACES}
    with cluster:
        yield cluster


def versions(nodes, place=HEAD):
    """By node that of each door, as a driver on a node is told."""
    doors = nodes.driver(place).do("fusion", name=QUORATE)
    return {door["http"].rpartition(":")[0]: door.get("quorate", "before") for door in doors}


def upgrade(nodes, place, by=HEAD):
    """As docs/upgrading.md has it: move away what runs there, stop Ray, install, start Ray; looked at from another."""
    nodes.driver(by).do("drain", address=address(place))
    wait_for(lambda: all(at != place for at, _ in member_processes(nodes, QUORATE)), "no member there", 120)
    nodes.switch_off(place)
    del nodes.own[place]
    nodes.switch_on(place)
    upgraded = f"{address(place)} is upgraded"
    wait_for(lambda: versions(nodes, by).get(address(place), "before") != "before", upgraded, 240)


def test_nodes_are_upgraded_one_by_one_and_no_request_is_lost(nodes, seed):
    served = nodes.driver(HEAD).do("deploy", spec=ensemble(QUORATE, replicas=3))
    revisions = {served["revision"]: WEIGHTS}
    assert set(versions(nodes).values()) == {"before"}
    with nodes.asking(served, QUORATE, revisions, seed) as asking:
        for place in (3, 2):
            upgrade(nodes, place)
            asking.door_answers(address(place), 120)
            asking.answered(100)
        assert sorted(versions(nodes).values()) == ["0.1.0", "0.1.0", "before"]

        def publish(place, weights):
            revisions[nodes.driver(place).do("publish", name=QUORATE, fusion={"weights": weights})] = weights

        for place, weights in ((HEAD, OTHER_WEIGHTS), (2, WEIGHTS), (HEAD, OTHER_WEIGHTS)):  # by the old, the new, ...
            until_done(partial(publish, place, weights))
            live = {door["revision"] for door in nodes.driver(HEAD).do("fusion", name=QUORATE)}
            assert len(live) == 1
            asking.answered(60)
        nodes.driver(2).do("rollback", name=QUORATE)
        asking.answered(60)
        if nodes.with_redis:
            upgrade(nodes, HEAD, by=2)
            asking.door_answers(address(HEAD), 120)
            assert set(versions(nodes, 2).values()) == {"0.1.0"}
            until_done(partial(publish, HEAD, WEIGHTS))
            asking.answered(100)
    print(f"{len(asking.report.requests)} requests: {dict(asking.report.counts)}")
    asking.report.assert_answered()
