"""Columns that stand for other classes than their places say are seen from labels, and those that do not are left."""

import numpy as np
import pytest

from quorate.tuning import Outputs
from quorate.tuning.evaluation.class_order import fitting_order, misplaced


def said(order, labels, seed=0, right=0.8):
    """Shares of a member whose columns are these classes."""
    random = np.random.default_rng(seed)
    classes = len(order)
    guess = np.where(random.random(len(labels)) < right, labels, random.integers(0, classes, len(labels)))
    return 0.1 * random.random((len(labels), classes)) + np.eye(classes)[guess][:, list(order)]


@pytest.mark.parametrize("order", [(1, 0), (2, 0, 1), (0, 2, 1), (3, 1, 0, 2)])
def test_the_classes_of_the_columns_are_found(order):
    labels = np.random.default_rng(1).integers(0, len(order), 200)
    assert fitting_order(said(order, labels), labels) == order


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_columns_in_their_places_and_guesses_are_left_alone(classes):
    for seed in range(30):
        labels = np.random.default_rng(seed).integers(0, classes, 64)
        for right in (0.0, 0.3, 0.9):
            assert fitting_order(said(range(classes), labels, seed, right), labels) is None


def test_where_a_class_has_no_row_nothing_is_told_but_of_two():
    labels = np.zeros(50, np.int64)
    assert fitting_order(said((2, 0, 1), labels), labels) is None
    assert fitting_order(said((1, 0), labels), labels) == (1, 0)


def test_a_member_is_named_with_what_to_write():
    labels = np.random.default_rng(2).integers(0, 2, 300)
    rows = Outputs(("a", "b"), np.stack([said((0, 1), labels), said((1, 0), labels)]), labels)
    (sentence,) = misplaced(rows, ("sad", "glad"))
    assert sentence.startswith("b is right on 1")
    assert sentence.endswith("if its columns are glad, sad: if so, write under members.b: classes: [glad, sad]")
    assert misplaced(Outputs(("a",), rows.probs[:1, :, :1], labels.astype(float)), ()) == []
