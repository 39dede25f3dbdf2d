import numpy as np
import pytest

from quorate.tuning.data.folds import folds_of
from quorate.tuning.data.halves import halves
from quorate.tuning.errors import DataError


def test_halves_have_one_mix_of_classes_and_share_no_row():
    labels = np.repeat([0, 1, 2], [40, 20, 6])
    first, second = halves(labels, seed=1)
    assert np.bincount(labels[first]).tolist() == np.bincount(labels[second]).tolist() == [20, 10, 3]
    assert sorted([*first, *second]) == list(range(66))
    assert not np.array_equal(first, halves(labels, seed=2)[0])


def test_a_group_is_in_one_half_and_halves_are_even():
    random = np.random.default_rng(0)
    groups = random.choice(["a", "b", "c", "d", "e", "f", "g"], 200)
    first, second = halves(np.zeros(200, int), groups)
    assert not set(groups[first]) & set(groups[second])
    assert abs(len(first) - len(second)) < 40


def test_the_earlier_half_comes_first_and_a_moment_is_on_one_side():
    times = np.random.default_rng(0).integers(0, 10, 100)
    first, second = halves(np.zeros(100, int), None, times)
    assert times[first].max() < times[second].min()


def test_too_few_rows_groups_or_times_to_halve_are_sentences():
    for columns, sentence in (
        ((np.zeros(1, int), None, None), "rows: 1; give hundreds"),
        ((np.zeros(9, int), np.zeros(9), None), "groups: 1; give at least 2"),
        ((np.zeros(9, int), None, np.zeros(9)), "times: 1; give at least 2"),
    ):
        with pytest.raises(DataError, match=sentence):
            halves(*columns)


def test_folds_keep_groups_together():
    random = np.random.default_rng(0)
    labels, groups = random.integers(0, 2, 100), random.integers(0, 12, 100)
    folds = folds_of(labels, groups, None, 5, 0)
    assert sorted(np.concatenate([fold for _, fold in folds])) == list(range(100))
    assert all(not set(groups[rest]) & set(groups[fold]) for rest, fold in folds)


def test_folds_by_time_are_judged_on_what_came_later():
    times = np.random.default_rng(0).integers(0, 30, 100)
    folds = folds_of(np.zeros(100, int), None, times, 5, 0)
    assert len(folds) == 5
    assert all(times[rest].max() < times[fold].min() for rest, fold in folds)
    judged = np.concatenate([fold for _, fold in folds])
    assert len(set(judged)) == len(judged) < 100
    assert len(folds_of(np.zeros(4, int), None, np.array([1, 1, 2, 2]), 5, 0)) == 1
