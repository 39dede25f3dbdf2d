"""Calls of Ray that fail at random, by its own injection: three nodes still serve and change."""

import itertools
import json
import time
from collections import Counter

import pytest

from tests.cluster.three_nodes.cluster import RATE, ThreeNodes
from tests.cluster.three_nodes.drivers import CommandError
from tests.cluster.three_nodes.faults import REFUSALS
from tests.cluster.three_nodes.machine import why_not
from tests.cluster.three_nodes.oracle import DEADLINE_S, OTHER_WEIGHTS, WEIGHTS, ensemble

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]

REQUESTS, MADE_S = 2000, 900
# A process loses so many calls of a kind: that was never sent, and whose answer was lost.
_ACTORS = {"num_failures": 100, "req_failure_prob": 25, "resp_failure_prob": 25}
_STORE = {"num_failures": 1000, "req_failure_prob": 10, "resp_failure_prob": 10}
FAULTS = {
    "CoreWorkerService.grpc_client.PushTask": _ACTORS,
    **{
        f"ray::rpc::InternalKVGcsService.grpc_client.InternalKV{what}": _STORE for what in ("Get", "Put", "Del", "Keys")
    },
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    if problem := why_not():
        pytest.skip(problem)
    env = {"RAY_testing_rpc_failure": json.dumps(FAULTS)}
    with ThreeNodes(tmp_path_factory.mktemp("ray_faults"), env=env) as nodes:
        yield nodes


class Operator:
    """Attempts changes, and keeps how each went."""

    def __init__(self, nodes):
        self._driver, self.outcomes = nodes.driver(), Counter[tuple[str, str]]()

    def attempt(self, change, **arguments):
        """What it returned; None where it was refused."""
        try:
            done = self._driver.do(change, **arguments)
        except CommandError as error:
            print(f"{change}: {error}")
            self.outcomes[change, error.kind] += 1
            return None
        self.outcomes[change, "done"] += 1
        return done

    def make(self, change, **arguments):
        """What it returned at last."""
        until = time.monotonic() + MADE_S
        while (done := self.attempt(change, **arguments)) is None:
            assert time.monotonic() < until, self.outcomes
        return done


def test_where_calls_of_ray_fail_changes_are_made_or_refused_in_words_and_requests_are_answered(faulty, seed):
    operator, name = Operator(faulty), "faulty"
    deployed = operator.make("deploy", spec=ensemble(name, replicas=2))
    fusions = [{"weights": weights, "deadline_s": DEADLINE_S} for weights in (OTHER_WEIGHTS, WEIGHTS)]
    live = operator.make("publish", name=name, fusion=fusions[0])
    revisions = {deployed["revision"]: WEIGHTS, live: OTHER_WEIGHTS}
    until = time.monotonic() + REQUESTS / RATE
    with faulty.asking(deployed, name, revisions, seed) as asking:
        for fusion in itertools.cycle(reversed(fusions)):
            live = operator.attempt("publish", name=name, fusion=fusion) or live
            assert operator.make("record", name=name)[1] == live  # what was refused was not made
            operator.attempt("fusion", name=name)
            operator.attempt("applications")
            if time.monotonic() > until:
                break
    print(operator.outcomes)
    assert {kind for _, kind in operator.outcomes} <= {"done", *REFUSALS}
    asking.report.assert_answered(0.99)
