"""What three nodes can answer at most, faults at half of it, and hours of it."""

import os
import time

import pytest

from tests.cluster.three_nodes.classify import FULL, MISLABELLED, SWAPPED, WRONG
from tests.cluster.three_nodes.cluster import PLACES
from tests.cluster.three_nodes.faults import kill_controller, kill_door, member_processes
from tests.cluster.three_nodes.machine import address
from tests.cluster.three_nodes.memory import resident_bytes, slopes
from tests.cluster.three_nodes.oracle import DEADLINE_S, OTHER_WEIGHTS, WEIGHTS, ensemble

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(3 * 3600)]

FIRST_RATE, STEP, STEP_S = 40.0, 1.4, 10
# A rate is kept up where nine of ten requests are answered within this share of the deadline.
IN_TIME, SHARE = 0.25, 0.9
# No more than this is asked for, whatever would be half: for a machine that has other things to do for hours.
MOST_RATE = float(os.environ.get("QUORATE_MOST_RATE", "inf"))
# How long a load goes on, in spans after each of which it is judged; the first ones warm the processes up.
MINUTES, SPANS, WARM = float(os.environ.get("QUORATE_SOAK_MINUTES", "120")), 20, 4
MOST_GROWN_BYTES, MOST_BYTES_A_REQUEST = 100 << 20, (1 << 20) / 10_000


def keeps_up(report):
    """Whether nearly all was answered in full and soon, counted from when it was due."""
    soon = [r for r in report.requests if r.kind == FULL and r.done - r.due <= IN_TIME * DEADLINE_S]
    return len(soon) >= SHARE * len(report.requests)


@pytest.fixture(scope="module")
def half(nodes):
    """Half of the highest rate that was kept up, in requests a second, or the most that is to be asked for."""
    deployed = nodes.driver().do("deploy", spec=ensemble("served"))
    rate = FIRST_RATE
    while True:
        with nodes.asking(deployed, "served", {deployed["revision"]: WEIGHTS}, 0, rate=rate) as asking:
            asking.last(STEP_S)
        print(f"{rate:.0f} requests a second: {dict(asking.report.counts)}")
        assert not {WRONG, SWAPPED} & asking.report.counts.keys()
        if not keeps_up(asking.report):
            return rate / STEP / 2
        if rate / 2 >= MOST_RATE:
            return MOST_RATE
        rate *= STEP


def test_half_of_what_saturates_is_answered_in_full_and_soon(nodes, served, seed, half):
    with nodes.asking(served, "served", {served["revision"]: WEIGHTS}, seed, rate=half) as asking:
        asking.last(30)
    asking.report.assert_answered()
    assert keeps_up(asking.report)


def test_at_half_load_a_killed_controller_and_publications_cost_no_answer(nodes, served, seed, half):
    revisions = {served["revision"]: WEIGHTS}
    with nodes.asking(served, "served", revisions, seed, rate=half) as asking:
        kill_controller(nodes)
        asking.last(15)
        for n in range(20):
            weights = OTHER_WEIGHTS if n % 2 else WEIGHTS
            fusion = {"weights": weights, "deadline_s": DEADLINE_S + (n + 1) / 100}  # each is another revision
            revisions[nodes.driver().do("publish", name="served", fusion=fusion)] = weights
        asking.last(5)
    asking.report.assert_answered()


def test_at_half_load_killed_doors_and_members_leave_999_of_1000_answered(nodes, deploy, seed, half):
    deployed = deploy(ensemble("half", replicas=2))
    with nodes.asking(deployed, "half", {deployed["revision"]: WEIGHTS}, seed, rate=half) as asking:
        for place in PLACES:
            at, pid = member_processes(nodes, "half")[0]
            nodes.nodes[at].signal(pid)
            kill_door(nodes, "half", place)
            print(f"the door was back {asking.door_answers(address(place)):.1f} s after it was killed")
            asking.last(10)
    asking.report.assert_answered(0.999)


def test_at_half_load_a_node_that_loses_power_leaves_999_of_1000_answered(nodes, deploy, seed, half):
    """Until it starts again: that takes all of a machine which is three nodes and their clients, for seconds."""
    deployed = deploy(ensemble("powered", replicas=2))
    place = PLACES[-1]
    with nodes.asking(deployed, "powered", {deployed["revision"]: WEIGHTS}, seed, rate=half) as asking:
        asking.last(10)
        nodes.switch_off(place)
        asking.last(30)
        back = time.monotonic()
        nodes.switch_on(place)
        print(f"its door was back {asking.door_answers(address(place), 300):.1f} s after the node")
        whole = asking.all_is_well()
        asking.last(10)
    asking.report.due(until=back - DEADLINE_S).assert_answered(0.999)
    assert not {WRONG, SWAPPED, MISLABELLED} & asking.report.counts.keys()
    asking.report.due(since=whole).assert_answered()


def test_hours_at_half_load_are_answered_in_full_and_leave_every_process_as_large_as_it_was(nodes, served, seed, half):
    looks, asked = [], 0
    for _ in range(SPANS):
        with nodes.asking(served, "served", {served["revision"]: WEIGHTS}, seed, rate=half) as asking:
            asking.last(60 * MINUTES / SPANS)
            held = resident_bytes(nodes)
        asking.report.assert_answered()
        asked += len(asking.report.requests)
        looks.append((asked, held))
    lines = {(place, pid): line for place, found in nodes.processes().items() for pid, line in found.items()}
    grown = {one: looks[-1][1][one] - held for one, held in looks[WARM][1].items() if one in looks[-1][1]}
    a_request = slopes(looks[WARM:])
    for one in sorted(grown, key=grown.__getitem__)[-5:]:
        print(f"{lines.get(one, one)[:60]}: {grown[one] / 2**20:+.1f} MiB, {a_request[one]:.1f} bytes a request")
    assert not {lines.get(one, one): size for one, size in grown.items() if size > MOST_GROWN_BYTES}
    assert not {lines.get(one, one): size for one, size in a_request.items() if size > MOST_BYTES_A_REQUEST}
