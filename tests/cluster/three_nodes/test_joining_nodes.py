"""Nodes that join a cluster that serves, and leave it, with no operator there: doors go where nodes go."""

import contextlib
import json
import sys

import pytest

from tests.cluster.three_nodes.classify import FULL
from tests.cluster.three_nodes.cluster import PLACES
from tests.cluster.three_nodes.faults import door_process
from tests.cluster.three_nodes.machine import address, wait_for
from tests.cluster.three_nodes.oracle import OTHER_WEIGHTS, WEIGHTS, ensemble

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]

FOURTH = 5  # the place of a machine that joins
EVERYWHERE = (*PLACES, FOURTH)
MOVE = "a move of its doors"
START_S = 600  # on a machine that is four nodes and does other things, too
# What it takes until a node that has left for good is forgotten, see ``moving_doors``, and then some.
FORGOTTEN_S = 900


@pytest.fixture(name="fourth")
def _fourth(nodes):
    """A machine that is no node yet; all that other tests have left is taken down, or it would have doors here, too."""
    for name in nodes.driver().do("ensembles"):
        nodes.driver().do("down", name=name)
    yield nodes.add(FOURTH)
    with contextlib.suppress(KeyError):
        nodes.remove(FOURTH)
    wait_for(lambda: not nodes.driver().do("nodes").get(address(FOURTH)), "the fourth node is known to be away", 120)


def has_doors(nodes, name, places):
    return nodes.driver().do("doors", name=name) == [address(place) for place in places]


def named_by(nodes, place, deployed):
    """The HTTP doors that a door names to its clients, as one outside asks it."""
    url = f"http://{address(place)}:{deployed['http'].rpartition(':')[2]}/v2"
    return {door.rpartition(":")[0] for door in json.loads(nodes.outside.run("curl", "-sf", url))["doors"]["http"]}


def test_a_node_that_joins_gets_a_door_by_itself_and_down_takes_it_away(nodes, fourth, deploy, seed):
    deployed = deploy(ensemble("joined"))
    nodes.start_ray(FOURTH)
    with nodes.asking(deployed, "joined", {deployed["revision"]: WEIGHTS}, seed, places=EVERYWHERE) as asking:
        print(
            f"the door of the new node answered {asking.door_answers(address(FOURTH), START_S):.1f} s after it joined"
        )
        whole = asking.all_is_well()
        asking.answered(40)
    asking.report.assert_answered(0.999)
    assert asking.report.due(since=whole).counts.keys() == {FULL}
    assert has_doors(nodes, "joined", EVERYWHERE)
    all_doors = {address(place) for place in EVERYWHERE}
    wait_for(lambda: named_by(nodes, PLACES[0], deployed) == all_doors, "clients are told of it")
    status = nodes.quorate(PLACES[1], "status", "--json")
    said = status.communicate(timeout=120)[0]
    assert said.count(f"{address(FOURTH)}:") == 2, said  # its HTTP and its gRPC door
    nodes.driver().do("down", name="joined")
    wait_for(lambda: not door_process(nodes, "joined", FOURTH), "no door is left")


def test_an_operator_who_deploys_while_a_door_moves_waits_for_it_and_both_are_done(nodes, fourth, deploy, seed):
    first = deploy(ensemble("moved"))
    revisions = {first["revision"]: WEIGHTS}
    with nodes.asking(first, "moved", revisions, seed) as asking:
        nodes.start_ray(FOURTH)
        wait_for(lambda: MOVE in nodes.driver().do("holder", name="moved"), "the door moves", START_S)
        spec = ensemble("moved", OTHER_WEIGHTS, config={"version": 2})
        second = nodes.driver(PLACES[1]).do("deploy", spec=spec)
        revisions[second["revision"]] = OTHER_WEIGHTS
        asking.answered(40)
    asking.report.assert_answered()
    assert has_doors(nodes, "moved", EVERYWHERE)
    doors = nodes.driver().do("fusion", name="moved")
    assert [door["revision"] for door in doors] == [second["revision"]] * len(EVERYWHERE)


def test_a_node_where_no_door_can_stand_costs_nothing_and_gets_one_when_it_can(nodes, fourth, deploy, seed):
    deployed = deploy(ensemble("barred"))
    taking = f"import socket, time; taken = {deployed['http'].rpartition(':')[2]}; "
    taking += "door = socket.create_server(('', taken)); time.sleep(3600)"
    fourth.run("sh", "-c", f'{sys.executable} -c "{taking}" >/dev/null 2>&1 </dev/null & echo $! >/dev/shm/taker')
    with nodes.asking(deployed, "barred", {deployed["revision"]: WEIGHTS}, seed) as asking:
        nodes.start_ray(FOURTH)
        wait_for(lambda: MOVE in nodes.driver().do("holder", name="barred"), "a door is tried", START_S)
        wait_for(lambda: not nodes.driver().do("holder", name="barred"), "it has not come about", START_S)
        assert has_doors(nodes, "barred", PLACES)
        wait_for(lambda: not door_process(nodes, "barred", FOURTH), "nothing is left of it")
        fourth.run("sh", "-c", "kill $(cat /dev/shm/taker)")
        wait_for(lambda: has_doors(nodes, "barred", EVERYWHERE), "it is tried again", START_S)
    asking.report.assert_answered()
    assert asking.report.counts.keys() == {FULL}


def test_a_node_that_has_left_is_forgotten_and_gets_its_door_again_when_it_is_back(nodes, fourth, deploy, seed):
    deployed = deploy(ensemble("left"))
    nodes.start_ray(FOURTH)
    wait_for(lambda: has_doors(nodes, "left", EVERYWHERE), "a door on the new node", START_S)

    def applications():
        return set(nodes.driver().do("applications").values())

    with nodes.asking(deployed, "left", {deployed["revision"]: WEIGHTS}, seed) as asking:
        nodes.switch_off(FOURTH)
        wait_for(lambda: has_doors(nodes, "left", PLACES), "it is forgotten", FORGOTTEN_S)
        wait_for(lambda: applications() == {"RUNNING"}, "nothing of it is left", START_S)
        nodes.switch_on(FOURTH)
        wait_for(lambda: has_doors(nodes, "left", EVERYWHERE), "it has one again", START_S)
    asking.report.assert_answered(0.999)
