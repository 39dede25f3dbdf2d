"""A release that turns out bad while clients ask: it had its share of their requests, and it is stopped live."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from quorate.deployments import parse_spec
from quorate.deployments.errors import CanaryError
from quorate.deployments.rollout.canary import watch
from tests.deployments.support.traffic import Traffic
from tests.deployments.support.waiting import until

FACTORIES = Path(__file__).parents[1] / "support" / "factories"
ROWS = np.array([[0.5, -1.0]], np.float32)
SHARE = 0.1
STOPPED_WITHIN_S = 60


def release(switch):
    """A member that breaks when the file at ``switch`` says no number any more."""
    member = {"model": "known:slow", "config": {"shift": 1, "switch": f"file:{switch}"}}
    common = {"inputs": ["x"], "output": "values", "resources": {"num_cpus": 0.1}}
    return parse_spec(
        {
            "name": "released",
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "members": {"m": {**member, **common}},
            "fusion": {"rule": "mean", "deadline_s": 10.0},
            "serving": {"resources": {"num_cpus": 0.1}},
        }
    )


@pytest.fixture
def live(cluster, tmp_path):
    from quorate.deployments.control.deploy import delete, deploy

    switch = tmp_path / "live"
    switch.write_text("0")
    yield deploy(release(switch), FACTORIES)
    delete("released")


# At so many requests either allows the share more than three standard deviations.
@pytest.mark.parametrize(("requests", "off"), [(1_000, 0.04), pytest.param(10_000, 0.02, marks=pytest.mark.slow)])
def test_a_release_that_turns_bad_had_its_share_of_requests_and_is_stopped_live(live, tmp_path, requests, off):
    from quorate.deployments.control.deploy import deploy
    from quorate.deployments.control.describe import applications

    switch, before = tmp_path / "switch", applications("released")
    switch.write_text("0")

    def check(candidate):
        watch(candidate, live.revision, SHARE, seconds=600)

    pause_s = 0.01 if requests <= 1_000 else 0
    with Traffic(live.http, "released", {"x": ROWS}, pause_s=pause_s) as traffic, ThreadPoolExecutor(1) as pool:
        releasing = pool.submit(deploy, release(switch), FACTORIES, check=check)
        until(lambda: releasing.done() or len(traffic.revisions()) == 2)
        begun = len(traffic.answers)
        until(lambda: releasing.done() or len(traffic.answers) >= begun + requests)
        asked = [answer.parameters["revision"] != live.revision for answer in traffic.answers[begun:]]
        failed_before = len(traffic.failures)
        switch.write_text("broken")
        with pytest.raises(CanaryError, match=r"errors in .* requests.*; it was stopped"):
            releasing.result(timeout=STOPPED_WITHIN_S)
        stopped, failed = len(traffic.answers), len(traffic.failures)
        until(lambda: len(traffic.answers) >= stopped + 300)
    assert failed_before == 0
    assert len(asked) >= requests
    assert np.mean(asked) == pytest.approx(SHARE, abs=off)
    assert 0 < failed <= len(traffic.failures) <= failed + 3  # those that were under way
    assert {answer.parameters["revision"] for answer in traffic.answers[stopped + 3 :]} == {live.revision}
    assert applications("released") == before
