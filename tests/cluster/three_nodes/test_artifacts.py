"""What a spec names comes to the nodes that need it, and what it was deployed from is never needed again."""

import shutil

import pytest

from tests.cluster.three_nodes.cluster import PLACES
from tests.cluster.three_nodes.machine import address, wait_for
from tests.cluster.three_nodes.oracle import OTHER_WEIGHTS, WEIGHTS
from tests.cluster.three_nodes.travelling import Travelling

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_after_the_folder_is_gone_nodes_die_come_back_empty_and_answer(nodes, deploy, seed):
    found = Travelling(nodes.nodes[2], "travels")
    operator = nodes.new_driver(2)
    first = operator.do("deploy", spec=found.spec(), folder=found.folder)
    revisions = {first["revision"]: WEIGHTS}
    second = operator.do("deploy", spec=found.spec(OTHER_WEIGHTS, version=2), folder=found.folder)
    revisions[second["revision"]] = OTHER_WEIGHTS
    operator.stop()
    found.delete()
    assert found.copies(nodes.nodes) == set(PLACES)
    with nodes.asking(second, "travels", revisions, seed) as asking:
        asking.answered(40)
        assert nodes.driver().do("rollback", name="travels") == first["revision"]
        for place in PLACES[1:]:
            nodes.switch_off(place)
            shutil.rmtree(nodes.nodes[place].disk / "ray")  # another disk
            nodes.switch_on(place)
            wait_for(lambda place=place: nodes.driver().do("nodes").get(address(place)), "it is back", 120)
            asking.all_is_well()
    asking.report.assert_safe()
    nodes.driver().do("down", name="travels")


def test_what_no_node_has_any_more_comes_out_of_the_store(nodes, deploy, seed):
    found = Travelling(nodes.nodes[3], "stored")
    operator = nodes.new_driver(3)
    store = nodes.folder / "store"  # which every node sees
    deployed = operator.do("deploy", spec=found.spec(), folder=found.folder, store=f"file://{store}")
    operator.stop()
    found.delete()
    assert len(list(store.iterdir())) == 3  # the words, and two files of code
    for node in nodes.nodes.values():
        for kept in (node.disk / "ray").glob("session_*/quorate/kept"):
            shutil.rmtree(kept)
    with nodes.asking(deployed, "stored", {deployed["revision"]: WEIGHTS}, seed) as asking:
        asking.answered(20)
        for place in PLACES:
            for pid in nodes.nodes[place].pids("ray::ServeReplica:stored.a"):
                nodes.nodes[place].signal(pid)
        asking.full_again()
    asking.report.assert_safe()
    nodes.driver().do("down", name="stored")
