"""Members are made to mean what they say by as many numbers as rows are enough for."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from quorate.tuning import Outputs
from quorate.tuning.alternatives.base import recipe_of
from quorate.tuning.alternatives.calibrated import CalibratedPool, CalibratedSingle, Calibrator


def outputs(rows, seed, bias=(0.0, 0.0, 0.0), sharp=2.0):
    """Two members that are too sure, and say some classes too often by a bias."""
    random = np.random.default_rng(seed)
    truth = random.normal(0, 1.5, (rows, 3))
    labels = (softmax(truth, axis=1).cumsum(axis=1) > random.random((rows, 1))).argmax(axis=1)
    seen = sharp * (truth + random.normal(0, 0.5, (2, rows, 3))) + np.array(bias)
    return Outputs(("a", "b"), softmax(seen, axis=2).astype(np.float32), labels)


def calibrations(rows, bias):
    recipe = recipe_of(CalibratedPool(Calibrator()).fit(outputs(rows, 0, bias), 0))
    assert recipe is not None
    return recipe, list(recipe.member_calibration.values())


def test_members_that_say_some_classes_too_often_get_a_scale_and_a_bias_by_class():
    recipe, found = calibrations(1500, (2.0, -1.0, -1.0))
    assert [len(one.scale) for one in found] == [3, 3]
    assert all(one.bias[0] < min(one.bias[1:]) - 0.5 for one in found)
    fresh = outputs(4000, 1, (2.0, -1.0, -1.0))
    said = recipe.fuse(fresh.names, fresh.probs).astype(float)
    plain = fresh.probs.mean(axis=0).astype(float)
    after, before = (log_loss(fresh.labels, one / one.sum(axis=1, keepdims=True)) for one in (said, plain))
    assert after < before - 0.2


@pytest.mark.parametrize(("rows", "bias"), [(1500, (0.0, 0.0, 0.0)), (100, (2.0, -1.0, -1.0))])
def test_a_temperature_is_all_they_get_where_more_does_not_help_or_rows_are_few(rows, bias):
    _, found = calibrations(rows, bias)
    assert [(len(one.scale), one.bias) for one in found] == [(1, ()), (1, ())]
    assert all(0.2 < one.scale[0] < 1 for one in found)


def test_the_best_single_one_is_found_once_all_are_calibrated_by_class():
    rows = outputs(1500, 0, (2.0, -1.0, -1.0))
    recipe = CalibratedSingle(Calibrator()).fit(rows, 0)
    (only,) = recipe.member_calibration.values()
    assert len(only.scale) == 3
