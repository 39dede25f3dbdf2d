import math

import pytest

from quorate.tuning.search.asha import best_by, cutoffs, rungs


def histories(*losses):
    return [[{"validation_log_loss": loss}] * 3 for loss in losses]


@pytest.mark.parametrize(("epochs", "expected"), [(27, (3, 9)), (30, (3, 10)), (100, (11, 33)), (3, (1,)), (2, ())])
def test_rungs_are_a_third_of_the_epochs_and_a_ninth_but_not_in_the_first_tenth(epochs, expected):
    assert rungs(epochs) == expected


def test_rungs_let_the_best_third_go_on():
    assert cutoffs(histories(0.1, 0.2, 0.3, 0.4, 0.5, 0.6), 27) == {3: 0.2}


def test_a_rung_that_fewer_than_three_reached_stops_nobody():
    assert cutoffs(histories(0.1, 0.2), 27) == {}


def test_a_training_is_judged_by_its_best_epoch_so_far_and_one_without_a_number_by_none():
    history = [{"validation_log_loss": loss} for loss in (0.9, None, 0.4, math.inf, 0.6)]
    assert [best_by(history, epoch) for epoch in (1, 2, 3, 5)] == [0.9, 0.9, 0.4, 0.4]
    assert best_by([{"validation_log_loss": None}], 1) == math.inf
