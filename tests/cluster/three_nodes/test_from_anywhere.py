"""A machine that is no node, with nothing but the bare package, and the Jobs address of a cluster."""

import json
import shutil

import pytest

from tests.cluster.three_nodes.cluster import PLACES, ThreeNodes
from tests.cluster.three_nodes.machine import address, wait_for, why_not
from tests.cluster.three_nodes.oracle import WEIGHTS
from tests.cluster.three_nodes.travelling import Travelling

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """A cluster of three nodes with a dashboard."""
    problem = why_not()
    if problem:
        pytest.skip(problem)
    with ThreeNodes(tmp_path_factory.mktemp("from_anywhere"), dashboard=True) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def operator(nodes):
    return nodes.operator()


def said(process, timeout_s=240):
    """What a command printed, once it has ended well."""
    printed, errors = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, printed + errors
    return printed


def test_an_operator_deploys_deletes_the_folder_and_all_comes_back_when_nodes_die(nodes, operator, seed):
    found = Travelling(operator, "travels")
    (operator.disk / "travels" / "spec.json").write_text(json.dumps(found.spec()))
    doors = ("--host", "0.0.0.0", "--insecure", "--json")
    deployed = json.loads(said(nodes.quorate_from(operator, "deploy", f"{found.folder}/spec.json", *doors)))
    found.delete()
    assert found.copies(nodes.nodes) == set(PLACES)
    assert not operator.pids("raylet")
    with nodes.asking(deployed, "travels", {deployed["revision"]: WEIGHTS}, seed) as asking:
        for place in (2, 3):
            nodes.switch_off(place)
            shutil.rmtree(nodes.nodes[place].disk / "ray")  # another disk
            nodes.switch_on(place)
            wait_for(lambda place=place: nodes.driver().do("nodes").get(address(place)), "it is back", 120)
            asking.all_is_well()
    asking.report.assert_safe()
    status = json.loads(said(nodes.quorate_from(operator, "status", "--json")))
    assert [ensemble["name"] for ensemble in status["ensembles"]] == ["travels"]
    assert said(nodes.quorate_from(operator, "down")).split() == ["stopped", "travels"]
