"""An ensemble on three nodes answers while what runs it is killed, and a fault planted in a member is noticed."""

import pytest

from tests.cluster.three_nodes.classify import FULL, SWAPPED
from tests.cluster.three_nodes.cluster import PLACES
from tests.cluster.three_nodes.faults import door_processes, kill_controller, kill_door
from tests.cluster.three_nodes.machine import address, wait_for
from tests.cluster.three_nodes.oracle import WEIGHTS
from tests.deployments.support.factories import oracle

pytestmark = pytest.mark.ray


def test_a_member_that_answers_with_another_requests_row_is_noticed(nodes, served, seed):
    planted = (10, oracle.ANOTHER, 0b010)
    with nodes.asking(served, "served", {served["revision"]: WEIGHTS}, seed, commanded=planted) as asking:
        asking.answered(60)
    swapped = {request.number for request in asking.report.requests if request.kind == SWAPPED}
    assert swapped == {request.number for request in asking.report.requests if request.number % 10 == 0}
    assert asking.report.counts[FULL] == len(asking.report.requests) - len(swapped)
    with pytest.raises(AssertionError, match="swapped"):
        asking.report.assert_safe()


def test_all_is_answered_while_the_controller_is_killed_and_no_door_is_replaced(nodes, served, seed):
    before = door_processes(nodes, "served")
    with nodes.asking(served, "served", {served["revision"]: WEIGHTS}, seed) as asking:
        kill_controller(nodes)
        wait_for(lambda: set(nodes.driver().do("applications").values()) == {"RUNNING"}, "all is taken over")
        asking.answered(60)
    asking.report.assert_answered()
    assert asking.report.counts[FULL] == len(asking.report.requests)
    assert door_processes(nodes, "served") == before
    assert 0 not in before.values()


def test_a_killed_door_is_back_at_its_address_and_the_others_answer_meanwhile(nodes, served, seed):
    before = door_processes(nodes, "served")
    place = PLACES[seed % len(PLACES)]
    with nodes.asking(served, "served", {served["revision"]: WEIGHTS}, seed) as asking:
        kill_door(nodes, "served", place)
        back_s = asking.door_answers(address(place))
        asking.answered(20)
    print(f"the door was back after {back_s:.1f} s")
    asking.report.assert_answered(0.999)
    after = door_processes(nodes, "served")
    assert {other: after[other] == before[other] for other in PLACES} == {other: other != place for other in PLACES}
