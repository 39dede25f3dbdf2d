"""What alternatives answer when members are missing."""

import numpy as np
import pytest

from quorate.tuning.alternatives.base import Outputs
from quorate.tuning.alternatives.calibrated import CalibratedPool, Calibrator
from quorate.tuning.alternatives.out_of_sample import out_of_sample
from quorate.tuning.alternatives.patterns import with_patterns
from quorate.tuning.alternatives.pools import LinearPool, LogPool
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.alternatives.stacked import Stacked
from quorate.tuning.alternatives.unfitted import Incumbent, Uniform
from quorate.tuning.evaluation.metrics.row_metrics import row_metric
from tests.tuning.support.hedged import hedged

NAMES = ("a", "b", "c")


def outputs(rows, seed):
    probs, labels = hedged(rows, seed)
    return Outputs(NAMES, probs.astype(np.float32), labels)


def found(alternative, solve):
    (one,), left_out = out_of_sample([alternative], solve, solve.rows(slice(0, 50)), row_metric("log_loss").numbers)
    assert not left_out
    return one


def tuned(alternative, solve, **limits):
    recipe = with_patterns(found(alternative, solve), solve, **limits)
    assert recipe is not None
    return recipe


def patterns(alternative, solve, **limits):
    return tuned(alternative, solve, **limits).options.get("patterns", [])


def loss(recipe, judge, left):
    return -np.log(recipe.fuse(judge.names, judge.probs, left)[np.arange(len(judge)), judge.labels]).mean()


@pytest.fixture(scope="module")
def rows():
    return outputs(2000, 0), outputs(4000, 1)


@pytest.mark.parametrize("alternative", [LinearPool(), LogPool(), CalibratedPool(Calibrator()), Stacked()])
def test_patterns_gain_on_rows_they_have_not_seen(rows, alternative):
    solve, judge = rows
    one = found(alternative, solve)
    recipe = tuned(alternative, solve)
    kept = recipe.options.get("patterns", [])
    for pattern in kept:
        assert loss(recipe, judge, set(pattern)) <= loss(one.fitted, judge, set(pattern)) + 5e-3
    if isinstance(alternative, LinearPool):
        assert {"a", "b"} in [set(pattern) for pattern in kept]
        assert loss(recipe, judge, {"a", "b"}) < loss(one.fitted, judge, {"a", "b"}) - 5e-3


@pytest.mark.parametrize("left", [{"a"}, {"b"}, {"c"}, {"a", "b"}, {"a", "c"}, {"b", "c"}])
def test_stacking_is_never_worse_than_the_best_member_that_is_left(rows, left):
    solve, judge = rows
    recipe = tuned(Stacked(), solve)
    alone = [loss(Recipe("mean", (name,)), judge, None) for name in left]
    assert loss(recipe, judge, left) <= min(alone) + 5e-3


def test_sets_that_serving_never_meets_have_no_weights(rows):
    solve, _ = rows
    assert {len(pattern) for pattern in patterns(LinearPool(), solve, quorum=2)} == {2}
    assert all("a" in pattern for pattern in patterns(LinearPool(), solve, required=["a"]))


def test_what_is_not_fitted_stays_as_it_is(rows):
    solve, _ = rows
    given = Recipe("weighted_mean", NAMES, {"a": 0.2, "b": 0.2, "c": 0.6})
    assert tuned(Incumbent(given), solve) is given
    assert tuned(Uniform(), solve).options == {}


def test_members_without_a_lesson_make_no_pattern():
    solve = outputs(400, 0)
    same = np.broadcast_to(np.array([0.4, 0.6], dtype=np.float32), solve.probs.shape)
    assert patterns(LinearPool(), Outputs(NAMES, same, solve.labels)) == []


def test_rows_that_count_more_speak_more(rows):
    solve, _ = rows
    alike = Outputs(NAMES, solve.probs, solve.labels, np.full(len(solve), 1.0))
    assert [set(one) for one in patterns(LinearPool(), alike)] == [set(one) for one in patterns(LinearPool(), solve)]
