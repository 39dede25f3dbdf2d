"""A change that fails, is refused or is interrupted leaves the cluster as it was, down to its files."""

import time

import pytest

from tests.cluster.three_nodes.classify import FULL
from tests.cluster.three_nodes.cluster import PLACES, interrupt
from tests.cluster.three_nodes.drivers import CommandError
from tests.cluster.three_nodes.faults import member_processes
from tests.cluster.three_nodes.leftovers import assert_same, settled
from tests.cluster.three_nodes.machine import DISK, wait_for
from tests.cluster.three_nodes.oracle import WEIGHTS, ensemble

SAID_S, MOST_ATTEMPTS = 60, 20

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]


def broken(name="served"):
    spec = ensemble(name, config={"version": "broken"})
    spec["members"]["b"]["model"] = "oracle:nobody"
    return spec


def stuck(name="served"):
    """Two of its members come up, the third never has loaded."""
    spec = ensemble(name, config={"version": "stuck"})
    spec["members"]["c"]["config"]["loading_s"] = 3600
    return spec


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [(broken(), {}, "oracle has no 'nobody'"), (stuck(), {"timeout_s": 30}, "not ready after 30 s")],
)
def test_a_deploy_that_fails_leaves_nothing(nodes, served, seed, spec, options, said):
    before = settled(nodes)
    with nodes.asking(served, "served", {served["revision"]: WEIGHTS}, seed) as asking:
        with pytest.raises(CommandError, match=said):
            nodes.driver().do("deploy", spec=spec, **options)
        assert_same(nodes, before)
    asking.report.assert_answered()
    assert asking.report.counts.keys() == {FULL}


@pytest.mark.parametrize(("dies", "why"), [(False, "RuntimeError: told to"), (True, "its process ended as it started")])
def test_a_member_that_never_starts_is_said_within_a_minute_after_few_attempts(nodes, served, seed, dies, why):
    before, attempts = settled(nodes), f"{DISK}/attempts-{dies}-{seed}"
    spec = ensemble("served", config={"version": f"unstartable {dies}"})
    spec["members"]["b"] |= {"model": "oracle:unstartable", "config": {"attempts": attempts, "dies": dies}}
    with nodes.asking(served, "served", {served["revision"]: WEIGHTS}, seed) as asking:
        began = time.monotonic()
        with pytest.raises(
            CommandError, match=rf"^(MemberStart|Deploy)Error: (members\.b|b did not start): .*{why}"
        ) as said:
            nodes.driver().do("deploy", spec=spec)
        took_s = time.monotonic() - began
        assert_same(nodes, before)
    made = sum(len(node.run("sh", "-c", f"cat {attempts} || true").splitlines()) for node in nodes.nodes.values())
    print(f"{said.value} after {took_s:.1f} s and {made} attempts")
    asking.report.assert_answered()
    assert asking.report.counts.keys() == {FULL}
    assert took_s <= SAID_S
    assert 1 <= made <= MOST_ATTEMPTS


@pytest.mark.parametrize("again", [False, True])
def test_a_deploy_that_is_interrupted_leaves_nothing(nodes, served, seed, again):
    before = settled(nodes)
    file = nodes.spec_file(stuck())
    with nodes.asking(served, "served", {served["revision"]: WEIGHTS}, seed) as asking:
        deploying = nodes.quorate(PLACES[1], "deploy", file)
        running = len(member_processes(nodes, "served"))
        wait_for(lambda: len(member_processes(nodes, "served")) > running, "new members start", 120)
        interrupt(deploying)
        if again:  # as people do
            time.sleep(0.5)
            interrupt(deploying)
        said = deploying.communicate(timeout=120)[0]
        assert deploying.returncode == 130 or (again and deploying.returncode), said
        assert "Traceback" not in said
        if again:  # it may have had no time; the next change of the ensemble does it
            nodes.driver().do("publish", name="served", fusion={"weights": WEIGHTS})
        assert_same(nodes, before)
    asking.report.assert_answered()
    assert asking.report.counts.keys() == {FULL}


def test_a_deploy_whose_operators_machine_dies_is_cleaned_up_by_the_next(nodes, served, seed):
    before = settled(nodes)
    operator = nodes.new_driver(PLACES[1])
    with nodes.asking(served, "served", {served["revision"]: WEIGHTS}, seed) as asking:
        running = len(member_processes(nodes, "served"))
        operator.send("deploy", spec=stuck())
        wait_for(lambda: len(member_processes(nodes, "served")) > running, "new members start", 120)
        operator.kill()
        nodes.driver().do("publish", name="served", fusion={"weights": WEIGHTS})
        assert_same(nodes, before)
    asking.report.assert_answered()
    assert asking.report.counts.keys() == {FULL}
