import pytest

from quorate.tuning.search.journal import Finished
from quorate.tuning.search.sampler import Proposals


def define(trial):
    return trial.suggest_float("x", -1.0, 1.0), trial.suggest_categorical("kind", ["a", "b"])


def asked(proposals, generation, count=4):
    return [found for _, found in proposals.ask(generation, count)]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_same_seed_and_same_outcomes_propose_the_same(sampler):
    def run(seed):
        proposals = Proposals(define, 1, sampler, seed, 4)
        found = []
        for generation in range(3):
            for trial, (x, _) in proposals.ask(generation, 4):
                proposals.tell(trial, [x * x])
                found.append(x)
        return found

    assert run(0) == run(0)
    assert run(0) != run(1)


def test_a_generation_is_proposed_the_same_whether_its_elders_were_told_or_learnt_from_the_journal():
    told, learnt = Proposals(define, 1, "tpe", 0, 4), Proposals(define, 1, "tpe", 0, 4)
    finished, values = [], {}
    for number, (trial, (x, _)) in enumerate(told.ask(0, 4)):
        told.tell(trial, [x * x])
        finished.append(Finished(number, dict(trial.params)))
        values[number] = [x * x]
    learnt.learn(finished, values)
    assert asked(told, 1) == asked(learnt, 1)


def test_failed_trials_are_learnt_without_a_value():
    proposals = Proposals(define, 1, "tpe", 0, 4)
    finished = [Finished(n, {"x": n / 4, "kind": "a"}, failure="broken") for n in range(4)]
    proposals.learn(finished, {})
    assert len(asked(proposals, 1)) == 4


def test_many_trials_draw_proposals_to_where_the_objective_is_small():
    proposals = Proposals(define, 1, "tpe", 0, 8)
    for generation in range(6):
        for trial, (x, _) in proposals.ask(generation, 8):
            proposals.tell(trial, [(x - 0.5) ** 2])
    late = [x for x, _ in asked(proposals, 6, 8)]
    assert sum(abs(x - 0.5) < 0.3 for x in late) >= 5  # 0.3 either side is 30 % of the range
