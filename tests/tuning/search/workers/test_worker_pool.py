import os
import signal

import pytest

from quorate.deployments.spec.schema import Resources
from quorate.tuning.errors import PredictionError, SweepError
from quorate.tuning.search.workers.worker_pool import WorkerPool

ONE = Resources(num_cpus=1.0)


@pytest.fixture
def pool(cluster, tmp_path):
    with WorkerPool(1, tmp_path) as pool:
        yield pool


def finished(pool):
    while True:
        for report in pool.wait(1.0):
            if report.died or report.outcome is not None:
                return report


def test_what_a_function_raises_on_a_worker_is_one_sentence_here_too(pool):
    def fail():
        raise PredictionError("members.cnn", "every row failed", "correct the member")

    with pytest.raises(PredictionError) as raised:
        pool.call(ONE, fail)
    assert str(raised.value) == "members.cnn: every row failed; correct the member"


def test_a_function_whose_workers_die_is_given_up(pool):
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(SweepError, match="die: its worker died 3 times"):
        pool.call(ONE, die)


def test_more_than_any_node_has_is_refused_instead_of_waited_for(pool):
    with pytest.raises(SweepError, match="no node has more than"):
        pool.call(Resources(num_cpus=1000.0), os.getpid)


def test_a_worker_that_lives_runs_the_next_trial_and_keeps_nothing_of_the_last(pool):
    class Trial:
        def __init__(self, config, shared):
            self.config = config

        def step(self):
            if self.config["dies"]:
                os.kill(os.getpid(), signal.SIGKILL)
            return {"log_loss": 1.0}, {"number": self.config["number"]}

    def kept():
        import gc

        return [type(one).__name__ for one in gc.get_objects() if type(one).__name__ == "Trial"]

    pool.hold(ONE)
    pids = []
    for number in range(3):
        while not pool.idle():
            pool.grow(1)
            pool.wait(1.0)
        pool.begin(number, Trial, {"number": number, "dies": number == 1}, None)
        report = finished(pool)
        assert (report.number, report.died) == (number, number == 1)
        pids.append(report.values.get("pid"))
    assert pids[1] is None
    assert pids[0] != pids[2]
    assert pool.call(ONE, os.getpid) == pids[2]
    assert pool.call(ONE, kept) == []
