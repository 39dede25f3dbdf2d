import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from quorate.tuning.data.folds import stratified_folds
from quorate.tuning.errors import DataError

LABELS = np.repeat([0, 1, 2], [50, 30, 20])


def test_folds_are_scikit_learns():
    expected = StratifiedKFold(5, shuffle=True, random_state=3).split(np.zeros(100), LABELS)
    for ours, theirs in zip(stratified_folds(LABELS, 5, seed=3), expected, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


@pytest.mark.parametrize("labels", [LABELS, np.zeros(7, int), np.array([0, 0, 0, 0, 0, 0, 1]), np.arange(4)])
def test_every_row_is_judged_once_by_a_fit_that_has_not_seen_it(labels):
    folds = stratified_folds(labels, 5, seed=0)
    assert len(folds) == min(5, len(labels))
    np.testing.assert_array_equal(np.sort(np.concatenate([judged for _, judged in folds])), np.arange(len(labels)))
    assert all(not set(fitted) & set(judged) for fitted, judged in folds)


def test_one_row_cannot_be_cross_validated():
    with pytest.raises(DataError, match="at least 2"):
        stratified_folds(np.array([0]), 5, seed=0)
