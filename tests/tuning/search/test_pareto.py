from quorate.tuning.search.journal import Finished
from quorate.tuning.search.pareto import pareto


def test_the_front_holds_whom_none_betters_in_everything():
    points = [(1.0, 5.0), (2.0, 2.0), (3.0, 3.0), (4.0, 1.0), (2.0, 2.0)]
    trials = [Finished(n, {}, {"log_loss": a, "memory_bytes": b}) for n, (a, b) in enumerate(points)]
    trials.append(Finished(5, {}, failure="broken"))
    assert [trial.number for trial in pareto(trials, ("log_loss", "memory_bytes"))] == [0, 1, 3]
    assert [trial.number for trial in pareto(trials, ("log_loss",))] == [0]
