"""Faults that last, or come again and again, on three nodes under load; then all is as it was."""

import random
import signal
import time

import pytest

from tests.cluster.three_nodes.classify import FULL
from tests.cluster.three_nodes.cluster import HEAD, PLACES
from tests.cluster.three_nodes.faults import member_processes
from tests.cluster.three_nodes.machine import DISK, address, wait_for
from tests.cluster.three_nodes.memory import titled_bytes
from tests.cluster.three_nodes.oracle import DEADLINE_S, OTHER_WEIGHTS, WEIGHTS, ensemble

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(3600)]

PUBLICATIONS, CHANGES, WARM = 1000, 200, 20
REPLACED_S, MENDED_S = 30, 60
DRAIN_RATE, DRAIN_REQUESTS = 200.0, 100_000
# Of INT64: a row of 24 KB, of which a link of 1 Mbit/s takes five a second.
WIDE, WIDE_RATE = 3000, 60.0


def test_a_node_that_loses_power_has_its_door_back_when_it_is_back(nodes, deploy, seed):
    deployed = deploy(ensemble("powered", replicas=2))
    place = random.Random(seed).choice(PLACES[1:])
    with nodes.asking(deployed, "powered", {deployed["revision"]: WEIGHTS}, seed) as asking:
        nodes.switch_off(place)
        asking.last(30)
        nodes.switch_on(place)
        back_s = asking.door_answers(address(place), 300)
        whole = asking.all_is_well()
        asking.last(20)
    print(f"the door was back {back_s:.1f} s after the node")
    asking.report.assert_answered(0.999)
    assert asking.report.due(since=whole).counts.keys() == {FULL}


@pytest.mark.parametrize("cut", ["cut", "deafen", "mute"])
def test_a_node_that_is_cut_off_for_a_while_leaves_nothing_behind(nodes, served, seed, cut):
    """Both ways; or it hears nobody, or nobody hears it."""
    place = random.Random(seed).choice(PLACES[1:])
    with nodes.asking(served, "served", {served["revision"]: WEIGHTS}, seed) as asking:
        getattr(nodes.network, cut)(place)
        asking.last(20)
        (nodes.network.join if cut == "cut" else nodes.network.lift)(place)
        asking.last(MENDED_S)  # replicas that were given up meanwhile end only when they hear of it
        whole = asking.all_is_well()
        asking.last(10)
        wait_for(lambda: len(member_processes(nodes, "served")) == len(WEIGHTS), "members, and none too many")
    asking.report.assert_answered(0.99)
    assert asking.report.due(since=whole).counts.keys() == {FULL}


def test_while_a_node_stays_away_all_is_answered_again_after_a_minute(nodes, deploy, seed):
    deployed = deploy(ensemble("lost", replicas=2))
    place = random.Random(seed).choice(PLACES[1:])
    with nodes.asking(deployed, "lost", {deployed["revision"]: WEIGHTS}, seed) as asking:
        off = time.monotonic()
        nodes.switch_off(place)
        asking.last(120)
        on = time.monotonic()
        nodes.switch_on(place)
        asking.all_is_well()
    asking.report.due(off, off + 60).assert_answered(0.99)
    later = asking.report.due(off + 60, on)
    later.assert_answered()
    print(f"after a minute: {dict(later.counts)}")
    assert later.counts.keys() == {FULL}


def test_a_member_replica_that_is_stopped_is_replaced_and_makes_no_answer_late(nodes, served, seed):
    place, pid = random.Random(seed).choice(member_processes(nodes, "served"))
    with nodes.asking(served, "served", {served["revision"]: WEIGHTS}, seed) as asking:
        stopped = time.monotonic()
        nodes.nodes[place].signal(pid, signal.SIGSTOP)
        replaced_s = asking.full_again() - stopped
        asking.last(max(0, 60 - (time.monotonic() - stopped)))
        if pid in nodes.nodes[place].processes():
            nodes.nodes[place].signal(pid, signal.SIGCONT)
        asking.last(10)
        wait_for(lambda: len(member_processes(nodes, "served")) == len(WEIGHTS), "members, and none too many")
    print(f"in full again after {replaced_s:.1f} s")
    asking.report.assert_answered()
    assert replaced_s <= REPLACED_S
    slowest = max(asking.report.requests, key=lambda request: request.done - request.due)
    assert slowest.done - slowest.due <= DEADLINE_S + 1, slowest


def test_a_slow_link_costs_answers_in_full_and_no_answers(nodes, served, seed):
    place = random.Random(seed).choice(PLACES[1:])
    with nodes.asking(served, "served", {served["revision"]: WEIGHTS}, seed) as asking:
        nodes.network.slow_down(place, "1mbit")
        asking.last(30)
        nodes.network.lift(place)
        asking.last(10)
    asking.report.assert_answered(0.999)


def test_a_replica_behind_a_slow_link_soon_gets_a_fraction_of_the_rows(nodes, deploy, seed):
    calls = f"{DISK}/slow-{seed}"
    deployed = deploy(ensemble("wide", replicas=2, config={"log": calls}, width=WIDE))

    def shares(asking, seconds):
        """Of the rows that replicas are asked for in so many seconds, those on each node."""
        before = rows_asked(nodes, calls)
        asking.last(seconds)
        asked = {at: count - before[at] for at, count in rows_asked(nodes, calls).items()}
        return {at: count / sum(asked.values()) for at, count in asked.items()}

    revisions = {deployed["revision"]: WEIGHTS}
    at_head = (HEAD,)  # what clients send to another door would fill its node's link
    with nodes.asking(deployed, "wide", revisions, seed, rate=WIDE_RATE, places=at_head, width=WIDE) as asking:
        asking.last(10)
        usual = shares(asking, 10)
        place = max(PLACES[1:], key=usual.__getitem__)
        nodes.network.slow_down(place, "1mbit")
        asking.last(10)
        slow = shares(asking, 10)[place]
        nodes.network.lift(place)
        asking.last(5)
    print(
        f"{usual[place]:.1%} of the rows before, {slow:.1%} from 10 s after the link had become slow: "
        f"{slow / usual[place]:.3f} of it"
    )
    asking.report.assert_answered(0.999)
    assert slow < usual[place] / 5


def rows_asked(nodes, log):
    """How many rows members were asked for so far, by place."""
    count = f"cat {log} 2>/dev/null | wc -l"
    return {place: int(node.run("sh", "-c", count)) for place, node in nodes.nodes.items()}


def test_a_thousand_publications_lose_nothing_and_no_process_grows(nodes, served, seed):
    revisions = {served["revision"]: WEIGHTS}
    watched = ("ray::ServeController", "gcs/gcs_server", "ray::ServeReplica:served.@")
    with nodes.asking(served, "served", revisions, seed) as asking:
        for n in range(PUBLICATIONS):
            if n == WARM:
                before = titled_bytes(nodes, watched)
            weights = OTHER_WEIGHTS if n % 2 else WEIGHTS
            deadline_s = DEADLINE_S + (n + 1) / PUBLICATIONS  # each is another revision
            fusion = {"weights": weights, "deadline_s": deadline_s}
            revisions[nodes.driver().do("publish", name="served", fusion=fusion)] = weights
        after = titled_bytes(nodes, watched)
        asking.answered(20)
    growth = {name: (after[name] - before[name]) >> 20 for name in watched}
    print(f"grown by {growth} MiB in {PUBLICATIONS - WARM} publications")
    asking.report.assert_answered()
    assert len(revisions) == PUBLICATIONS + 1
    assert max(most_of_one(growth)) <= 50


def most_of_one(growth):
    """MiB of the controller, of the store, and of a door: there is one on each node."""
    return [grown / (len(PLACES) if "served.@" in name else 1) for name, grown in growth.items()]


def test_two_hundred_changes_of_a_member_lose_nothing_and_no_process_grows(nodes, served, seed):
    watched = ("ray::ServeController", "gcs/gcs_server", "ray::ServeReplica:served.@")
    revisions = {served["revision"]: WEIGHTS}
    with nodes.asking(served, "served", revisions, seed) as asking:
        for n in range(CHANGES):
            if n == WARM:
                before = titled_bytes(nodes, watched)
            spec = ensemble("served")
            spec["members"]["b"]["config"]["version"] = n  # another member, that starts beside the old one
            revisions[nodes.driver().do("deploy", spec=spec)["revision"]] = WEIGHTS
        after = titled_bytes(nodes, watched)
        asking.answered(20)
    growth = {name: (after[name] - before[name]) >> 20 for name in watched}
    print(f"grown by {growth} MiB in {CHANGES - WARM} changes of a member")
    asking.report.assert_answered()
    assert asking.report.counts.keys() == {FULL}
    assert max(most_of_one(growth)) <= 50


def test_a_node_that_is_drained_loses_no_request(nodes, deploy, seed):
    deployed = deploy(ensemble("drained", replicas=2))
    place = PLACES[-1]
    with nodes.asking(deployed, "drained", {deployed["revision"]: WEIGHTS}, seed, rate=DRAIN_RATE) as asking:
        until = time.monotonic() + DRAIN_REQUESTS / DRAIN_RATE
        nodes.driver().do("drain", address=address(place))
        wait_for(lambda: all(at != place for at, _ in member_processes(nodes, "drained")), "no member there", 120)
        asking.last(10)
        nodes.switch_off(place)
        nodes.switch_on(place)
        asking.door_answers(address(place), 300)
        asking.last(until - time.monotonic())
    asking.report.assert_answered()
    assert len(asking.report.requests) >= DRAIN_REQUESTS
