"""Measured on real processes and sockets; members sleep, so what they take is known whatever else the machine does."""

import numpy as np
import pytest
import torch

from quorate.deployments import parse_spec
from quorate.tuning.errors import PredictionError
from quorate.tuning.latency.curves import Curve, Measured, Overhead, load_measured, measure
from quorate.tuning.latency.local_serving import seconds_of_requests
from quorate.tuning.latency.overhead import measure_overhead
from quorate.tuning.search.structures.latency_check import check_latency
from quorate.tuning.search.structures.structure import Structure
from quorate.tuning.search.structures.table import Column, Table

pytestmark = pytest.mark.long

SLEEPS_S = {"quick": 0.003, "slow": 0.008}


@pytest.fixture(scope="module")
def sleepers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sleepers")
    (folder / "my_factory_s.py").write_text(
        "import time\nimport numpy as np\n"
        "def make(seconds):\n"
        "    def model(*read):\n"
        "        time.sleep(seconds)\n"
        "        return np.tile(np.array([0.2, 0.8], np.float32), (len(read[0]), 1))\n"
        "    return model\n"
    )
    return folder


def ensemble(*names):
    member = {"model": "my_factory_s:make", "inputs": ["row"], "output": "probabilities"}
    known = {name: {**member, "config": {"seconds": seconds}} for name, seconds in SLEEPS_S.items()}
    known["behind"] = {**known["quick"], "inputs": ["row", "quick"]}
    needed = {*names, "quick"} if "behind" in names else set(names)
    words = {"name": "sleepers", "inputs": {"row": {"datatype": "FP32", "shape": [3]}}, "classes": ["a", "b"]}
    fusion = {"rule": "mean", "members": list(names), "deadline_s": 1.0}
    return parse_spec({**words, "members": {name: known[name] for name in sorted(needed)}, "fusion": fusion})


def here(resources, function, *args):
    return function(*args)


ROWS = {"row": np.zeros((5, 3), np.float32)}


@pytest.fixture(scope="module")
def overhead():
    return measure_overhead(ROWS, 2)


def test_serving_takes_time_beside_the_members(overhead):
    assert overhead.step_s + overhead.member_s > 1e-5
    assert overhead.of(3) == pytest.approx(overhead.step_s + 3 * overhead.member_s)


@pytest.mark.parametrize(
    ("topology", "names", "at_least_s"), [("parallel", ("quick", "slow"), 0.008), ("chain", ("behind",), 0.006)]
)
def test_a_prediction_counts_members_and_serving_and_is_compared(sleepers, overhead, topology, names, at_least_s):
    quick_and_slow = ensemble("quick", "slow")
    curves = {name: measure(quick_and_slow.job(name), sleepers, ROWS) for name in SLEEPS_S}
    curves["behind"] = curves["quick"]  # it sleeps as long
    reads = {"behind": ("quick",)}
    columns = tuple(Column(name, curve, 0, reads.get(name, ())) for name, curve in curves.items())
    probs = np.tile(np.array([0.2, 0.8], np.float32), (len(columns), 10, 1))
    table = Table(columns, probs, np.ones(10, dtype=np.int64), overhead)
    check = check_latency(Structure(topology, "mean", names), ensemble(*names), sleepers, table, ROWS, here)
    assert check.measured_s > at_least_s
    assert check.predicted_s - check.serving_s > at_least_s
    assert check.serving_s > 0
    assert check.error_s == pytest.approx(check.predicted_s - check.measured_s)


def test_what_is_measured_on_one_thread_leaves_the_callers_threads_as_they_were(sleepers):
    job = ensemble("quick").job("quick")
    job = job.model_copy(update={"member": job.member.model_copy(update={"max_batch_size": 1})})
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        measure(job, sleepers, ROWS)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_member_that_cannot_be_served_is_named(tmp_path):
    spec = ensemble("slow")
    lost = spec.members["slow"].model_copy(update={"model": "no_such_module:make"})
    with pytest.raises(PredictionError, match=r"members\.slow: .*no_such_module"):
        seconds_of_requests(spec.model_copy(update={"members": {"slow": lost}}), tmp_path, ROWS, 1)


def test_what_was_measured_is_read_again_and_a_damaged_file_counts_as_none(tmp_path):
    curve = Curve("cpu", {1: 0.1, 2: 0.15}, {1: 0.2, 2: 0.3}, (0.1, 0.2))
    found = Measured({"a": curve}, Overhead(1e-3, 2e-4))
    found.save(tmp_path)
    assert load_measured(tmp_path) == found
    (tmp_path / "measured.json").write_text('{"members"')
    assert load_measured(tmp_path) == Measured()
