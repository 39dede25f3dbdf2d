"""Processes that are killed again and again on three nodes under load."""

import os
import random
import statistics
import time

import pytest

from tests.cluster.three_nodes.classify import FULL
from tests.cluster.three_nodes.cluster import PLACES
from tests.cluster.three_nodes.faults import kill_controller, kill_door, member_processes, until_done
from tests.cluster.three_nodes.machine import DISK, wait_for
from tests.cluster.three_nodes.oracle import WEIGHTS, ensemble

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(3600)]

MINUTES = float(os.environ.get("QUORATE_SOAK_MINUTES", "10"))
USABLE_S = 60  # after the last of six kills: 8 s where nothing else runs, 21 on a busy machine
MOST_CALLS = 1.1  # of members, for each that answers need


def test_a_member_replica_killed_every_five_seconds_costs_no_answers(nodes, deploy, seed):
    deployed = deploy(ensemble("killed", replicas=2))
    chance, took_s = random.Random(seed), []
    until = time.monotonic() + 60 * MINUTES

    def whole():
        return sum(len(nodes.driver().do("member", name="killed", which=m)) for m in WEIGHTS) == 2 * len(WEIGHTS)

    wait_for(whole, "all replicas are there")
    with nodes.asking(deployed, "killed", {deployed["revision"]: WEIGHTS}, seed) as asking:
        while time.monotonic() < until:
            place, pid = chance.choice(member_processes(nodes, "killed"))
            nodes.nodes[place].signal(pid)
            killed = time.monotonic()
            wait_for(lambda: not whole(), "it is missed")
            wait_for(whole, "another has its place", 120)
            took_s.append(time.monotonic() - killed)
            asking.last(max(0, killed + 5 - time.monotonic()))
    print(
        f"{len(took_s)} killed; another took calls after {statistics.median(took_s):.1f} s, {max(took_s):.1f} at most"
    )
    asking.report.assert_answered(0.999)
    assert asking.report.counts[FULL] >= 0.99 * len(asking.report.requests)


def test_six_killed_controllers_cost_no_answer_and_soon_changes_go_on(nodes, served, seed):
    with nodes.asking(served, "served", {served["revision"]: WEIGHTS}, seed) as asking:
        for _ in range(6):
            asking.last(10)
            killed = time.monotonic()
            kill_controller(nodes)
        until_done(lambda: nodes.driver().do("fusion", name="served"))
        until_done(lambda: nodes.driver().do("publish", name="served", fusion={"weights": WEIGHTS}))
        took_s = time.monotonic() - killed
        assert len(nodes.driver().do("fusion", name="served")) == len(PLACES)
        asking.last(10)
    print(f"usable {took_s:.1f} s after the last controller was killed")
    asking.report.assert_answered()
    assert asking.report.counts.keys() == {FULL}
    assert took_s <= USABLE_S


def test_a_door_killed_every_ten_seconds_costs_no_answer_and_few_calls(nodes, deploy, seed):
    calls = f"{DISK}/calls-{seed}"
    deployed = deploy(ensemble("doors", config={"log": calls}))
    chance = random.Random(seed)
    with nodes.asking(deployed, "doors", {deployed["revision"]: WEIGHTS}, seed) as asking:
        for _ in range(6):
            kill_door(nodes, "doors", chance.choice(PLACES))
            asking.last(10)
        asking.all_is_well()
    asking.report.assert_answered(0.999)
    made = sum(len(node.run("sh", "-c", f"cat {calls} || true").splitlines()) for node in nodes.nodes.values())
    needed = len(WEIGHTS) * len(asking.report.requests)
    print(f"{made} rows were asked of members, {made / needed:.4f} of what the answers needed")
    assert made <= MOST_CALLS * needed
    assert made >= sum(len(request.line.get("used", ())) for request in asking.report.requests)
