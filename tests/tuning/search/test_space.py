import optuna
import pytest

from quorate.tuning.search.space import Heads, SearchSpace, suggest_head


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"deadline_s": (1.0, 0.5)}, "deadline_s: the range ends at 0.5, before it begins at 1"),
        ({"families": {"mlp": {"width": (9, 3)}}}, "width: the range ends at 3"),
        ({"families": {"mlp": {"learning_rate": (0.0, 1.0)}}}, "greater than 0"),
        ({"heads": {"dropout": (0.0, 1.0)}}, "less than 1"),
    ],
)
def test_ranges_that_hold_nothing_are_refused_when_the_space_is_made(words, said):
    with pytest.raises(ValueError, match=said):
        SearchSpace(name="space", **words)


def test_a_head_is_asked_for_whom_it_reads_and_for_its_numbers():
    space = SearchSpace(heads=Heads(width=(16, 17), depth=(2, 2), learning_rate=(1e-3, 2e-3)))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asked = [suggest_head(study.ask(), space, "chain", ["a", "b"]) for _ in range(20)]
    assert {source for source, _, _ in asked} == {"a", "b"}
    assert {config["width"] for _, config, _ in asked} == {16, 17}
    assert all(config["depth"] == 2 and 0 <= config["dropout"] <= 0.3 for _, config, _ in asked)
    assert all(1e-3 <= how["learning_rate"] <= 2e-3 for _, _, how in asked)
    assert {name.partition(".")[0] for trial in study.trials for name in trial.params} == {"chain"}
