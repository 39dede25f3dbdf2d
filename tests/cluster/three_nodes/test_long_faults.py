"""Faults that last, or come again and again, on three nodes under load; then all is as it was."""

import os
import random
import time

import pytest

from tests.cluster.three_nodes.classify import FULL
from tests.cluster.three_nodes.cluster import PLACES
from tests.cluster.three_nodes.faults import door_processes, member_processes
from tests.cluster.three_nodes.machine import address, wait_for
from tests.cluster.three_nodes.oracle import DEADLINE_S, OTHER_WEIGHTS, WEIGHTS, ensemble

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(3600)]

PUBLICATIONS, WARM = 1000, 20
MINUTES = float(os.environ.get("QUORATE_SOAK_MINUTES", "10"))


@pytest.mark.parametrize("away_s", [30, 60])
def test_all_is_answered_while_the_gcs_is_away_and_nothing_is_replaced(nodes, served, seed, away_s):
    if not nodes.with_redis:
        pytest.skip("needs redis-server, for a GCS that comes back with what it knew")
    doors, members = door_processes(nodes, "served"), member_processes(nodes, "served")
    with nodes.asking(served, "served", {served["revision"]: WEIGHTS}, seed) as asking:
        command = nodes.kill_gcs()
        asking.last(away_s)
        nodes.start_gcs(command)
        wait_for(lambda: len([up for up in nodes.driver().do("nodes").values() if up]) == len(PLACES), "all nodes", 90)
        nodes.driver().do("publish", name="served", fusion={"weights": WEIGHTS})
        asking.last(15)  # what was put off while it was away has its chance to do harm now
    asking.report.assert_answered()
    assert asking.report.counts[FULL] == len(asking.report.requests)
    assert (door_processes(nodes, "served"), member_processes(nodes, "served")) == (doors, members)


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


def test_a_node_that_is_cut_off_for_a_while_leaves_nothing_behind(nodes, served, seed):
    place = random.Random(seed).choice(PLACES[1:])
    with nodes.asking(served, "served", {served["revision"]: WEIGHTS}, seed) as asking:
        nodes.network.cut(place)
        asking.last(20)
        nodes.network.join(place)
        whole = asking.all_is_well()
        asking.last(30)
        wait_for(lambda: len(member_processes(nodes, "served")) == len(WEIGHTS), "members, and none too many")
    asking.report.assert_answered(0.999)
    assert asking.report.due(since=whole).counts.keys() == {FULL}


def test_a_slow_link_costs_answers_in_full_and_no_answers(nodes, served, seed):
    place = random.Random(seed).choice(PLACES[1:])
    with nodes.asking(served, "served", {served["revision"]: WEIGHTS}, seed) as asking:
        nodes.network.slow_down(place, "1mbit")
        asking.last(30)
        nodes.network.slow_down(place, "10gbit")
        asking.last(10)
    asking.report.assert_answered(0.999)


def test_a_thousand_publications_lose_nothing_and_no_process_grows(nodes, served, seed):
    revisions = {served["revision"]: WEIGHTS}
    watched = ("ray::ServeController", "gcs/gcs_server", "ray::ServeReplica:served.@")
    with nodes.asking(served, "served", revisions, seed) as asking:
        for n in range(PUBLICATIONS):
            if n == WARM:
                before = memory_bytes(nodes, watched)
            weights = OTHER_WEIGHTS if n % 2 else WEIGHTS
            deadline_s = DEADLINE_S + (n + 1) / PUBLICATIONS  # each is another revision
            fusion = {"weights": weights, "deadline_s": deadline_s}
            revisions[nodes.driver().do("publish", name="served", fusion=fusion)] = weights
        after = memory_bytes(nodes, watched)
        asking.answered(20)
    growth = {name: (after[name] - before[name]) >> 20 for name in watched}
    print(f"grown by {growth} MiB in {PUBLICATIONS - WARM} publications")
    asking.report.assert_answered()
    assert len(revisions) == PUBLICATIONS + 1
    assert max(growth.values()) <= 50


def test_a_member_replica_killed_every_five_seconds_costs_no_answers(nodes, deploy, seed):
    deployed = deploy(ensemble("killed", replicas=2))
    chance, kills = random.Random(seed), 0
    until = time.monotonic() + 60 * MINUTES
    with nodes.asking(deployed, "killed", {deployed["revision"]: WEIGHTS}, seed) as asking:
        while time.monotonic() < until:
            found = member_processes(nodes, "killed")
            if found:
                place, pid = chance.choice(found)
                nodes.nodes[place].signal(pid)
                kills += 1
            asking.last(5)
    print(f"{kills} killed")
    asking.report.assert_answered(0.999)


def test_a_node_that_is_drained_loses_no_request(nodes, deploy, seed):
    deployed = deploy(ensemble("drained", replicas=2))
    place = PLACES[-1]
    with nodes.asking(deployed, "drained", {deployed["revision"]: WEIGHTS}, seed) as asking:
        nodes.driver().do("drain", address=address(place))
        wait_for(lambda: all(at != place for at, _ in member_processes(nodes, "drained")), "no member there", 120)
        asking.last(10)
        nodes.switch_off(place)
        nodes.switch_on(place)
        asking.door_answers(address(place), 300)
    asking.report.assert_answered()


def memory_bytes(nodes, titles):
    """Of all processes that are called so, by title."""
    found = dict.fromkeys(titles, 0)
    for node in nodes.nodes.values():
        shown = {pid: title for pid, line in node.processes().items() for title in titles if title in line}
        for pid, title in shown.items():
            status = node.run("cat", f"/proc/{pid}/status")
            found[title] += 1024 * int(
                next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]
            )
    return found
