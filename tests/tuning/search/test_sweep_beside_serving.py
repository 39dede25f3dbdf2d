"""A sweep on the cluster that serves: it costs the served ensemble no answer, and finds what it finds alone."""

import contextlib

import numpy as np
import pytest

from quorate.deployments import parse_spec
from quorate.tuning import digits, load_measured, resume_sweep, sweep
from quorate.tuning.errors import SweepError
from tests.deployments.support.factories.known import known
from tests.deployments.support.member_threads import FACTORIES
from tests.deployments.support.traffic import Traffic
from tests.deployments.support.waiting import until
from tests.tuning.support.small_disk import fill, small_disk
from tests.tuning.support.small_sweep import BUDGET, SPACE, outcome, small

ROWS = np.array([[0.5, -1.0], [2.0, 0.25]], np.float32)
SHIFTS = {"a": 1, "b": -2}
RIGHT = np.mean([known(shift)(ROWS) for shift in SHIFTS.values()], axis=0)
SMALL = {**BUDGET, "trials": 4, "member_trials": 2}


@pytest.fixture(scope="module")
def url(cluster):
    from quorate.deployments.control.deploy import delete, deploy

    common = {"model": "known:known", "inputs": ["x"], "output": "values", "resources": {"num_cpus": 0.1}}
    spec = {
        "name": "beside",
        "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "members": {name: {**common, "config": {"shift": shift}} for name, shift in SHIFTS.items()},
        "fusion": {"rule": "mean", "deadline_s": 20.0},
        "serving": {"resources": {"num_cpus": 0.1}},
    }
    yield deploy(parse_spec(spec), FACTORIES).http
    delete("beside")


@pytest.fixture(scope="module")
def data():
    return small(digits())


@pytest.fixture(scope="module")
def alone(cluster, data, tmp_path_factory):
    """A sweep while nobody asks anything."""
    return sweep(SPACE, data, runs=tmp_path_factory.mktemp("alone"), **SMALL)


def serving_pids():
    from quorate.deployments.control.describe import describe_fusion, describe_members

    found = [describe_fusion("beside"), *describe_members("beside").values()]
    return {replica["pid"] for replicas in found for replica in replicas}


@contextlib.contextmanager
def served_in_full(url):
    """Meanwhile clients ask, and are all answered, right and by all members, from the same processes."""
    pids = serving_pids()
    with Traffic(url, "beside", {"x": ROWS}) as traffic:
        until(lambda: len(traffic.answers) > 300)
        alone = np.quantile(list(traffic.took_s), (0.5, 0.99))
        began = len(traffic.answers)
        yield
        beside = np.quantile(traffic.took_s[began:], (0.5, 0.99))
        assert len(traffic.answers) > began + 100
    print(f"half and 99 % within {alone * 1000} ms alone, {beside * 1000} ms beside it: {beside / alone} times as long")
    assert traffic.failures == []
    for answer in traffic.answers:
        assert answer.parameters["degraded"] is False
        np.testing.assert_allclose(answer.outputs["fused"], RIGHT, atol=1e-6)
    assert serving_pids() == pids
    assert len(pids) == 3


def test_a_sweep_costs_an_ensemble_beside_it_no_answer_and_ends_as_it_does_alone(url, alone, data, tmp_path):
    with served_in_full(url):
        result = sweep(SPACE, data, runs=tmp_path, measured=load_measured(alone.folder), **SMALL)
    assert result.complete
    assert outcome(result) == outcome(alone)


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_a_sweep_in_a_sentence_and_costs_no_answer(url, alone, data, tmp_path):
    with small_disk(tmp_path / "disk", "16m") as disk, served_in_full(url):
        fill(disk, 100_000)
        with pytest.raises(SweepError, match=r"cannot be written \(No space left on device\); make room, .*--resume"):
            sweep(SPACE, data, run_folder=disk / "run", measured=load_measured(alone.folder), **SMALL)
        (disk / "ballast").unlink()
        result = resume_sweep(disk / "run", data)
    assert outcome(result) == outcome(alone)


@pytest.mark.slow
def test_a_long_sweep_costs_an_ensemble_beside_it_no_answer(url, data, tmp_path):
    with served_in_full(url):
        result = sweep(SPACE, data, runs=tmp_path, **{**BUDGET, "trials": 100, "member_trials": 20})
    assert result.complete
