import optuna
import pytest

from quorate.tuning.errors import SweepError
from quorate.tuning.search.space import Family, Heads, SearchSpace, suggest_head


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


def test_families_read_what_they_can():
    assert set(SearchSpace().fitting((1, 8, 8)).families) == {"cnn", "rnn", "transformer", "mlp"}
    assert set(SearchSpace().fitting((13,)).families) == {"table", "boosting", "forest", "mlp"}
    for shape in [(8, 8), (13,)]:
        with pytest.raises(SweepError, match="none of cnn reads rows"):
            SearchSpace(families={"cnn": Family()}).fitting(shape)


def test_ranges_are_of_their_family_also_when_a_space_is_read_again():
    space = SearchSpace.model_validate({"families": {"boosting": {"leaves": (3, 5)}, "mlp": {"width": (2, 3)}}})
    assert SearchSpace.model_validate_json(space.model_dump_json()) == space
    assert [type(family).__name__ for family in space.families.values()] == ["Boosting", "Family"]
    with pytest.raises(ValueError, match="leaves"):
        SearchSpace.model_validate({"families": {"forest": {"leaves": (3, 5)}}})


def test_a_head_is_asked_for_whom_it_reads_and_for_its_numbers():
    space = SearchSpace(heads=Heads(width=(16, 17), depth=(2, 2), learning_rate=(1e-3, 2e-3)))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asked = [suggest_head(study.ask(), space, "chain", ["a", "b"]) for _ in range(20)]
    assert {source for source, _, _ in asked} == {"a", "b"}
    assert {config["width"] for _, config, _ in asked} == {16, 17}
    assert all(config["depth"] == 2 and 0 <= config["dropout"] <= 0.3 for _, config, _ in asked)
    assert all(1e-3 <= how["learning_rate"] <= 2e-3 for _, _, how in asked)
    assert {name.partition(".")[0] for trial in study.trials for name in trial.params} == {"chain"}
