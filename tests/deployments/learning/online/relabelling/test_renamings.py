"""What labels call classes: as Bayes has it over all that may have happened, and what is believed of it."""

from itertools import product

import numpy as np
import pytest

from quorate.deployments.learning.online.relabelling.likely import NOBODY, Likely
from quorate.deployments.learning.online.relabelling.matrix import Relabels, answers_by
from quorate.deployments.learning.online.relabelling.renamings import HOME, MOVES, NOISE, SHARES, Renamings


def likely_of(probs, truth):
    """Of (N, C) probabilities that a single member gave."""
    return Likely.of(probs[None], np.ones((len(probs), 1), np.bool_), np.asarray(truth))


def by_brute_force(probs, truth):
    """What class 0 is called after all labels, and the probability of these, over every path of its states."""
    count = probs.shape[1]
    states = [(0, 0.0), *((new, share) for new in range(1, count) for share in SHARES)]
    first = np.array([1 - MOVES, *[MOVES / (len(states) - 1)] * (len(states) - 1)])
    anew = np.array([HOME, *[(1 - HOME) / (len(states) - 1)] * (len(states) - 1)])
    matrices = []
    for new, share in states:
        matrix = np.eye(count)
        matrix[new, 0] += share
        matrix[0, 0] -= share
        matrices.append(matrix)
    evidence, called = 0.0, np.zeros(count)
    for path in product(range(len(states)), repeat=len(truth) + 1):
        weight = first[path[0]]
        for at, label in enumerate(truth):
            weight *= NOISE / count + (1 - NOISE) * (matrices[path[at]] @ probs[at])[label]
            weight *= (1 - MOVES) * (path[at] == path[at + 1]) + MOVES * anew[path[at + 1]]
        evidence += weight
        called += weight * matrices[path[-1]][:, 0]
    return called / evidence, evidence


@pytest.mark.parametrize("truth", [[0, 0, 1, 1], [1, 2, 0, 1], [2, 2, 2, 0]])
def test_of_one_class_it_is_bayes_over_every_path_that_it_may_have_taken(truth):
    probs = np.array([[0.94, 0.03, 0.03], [0.92, 0.045, 0.035], [0.955, 0.005, 0.04], [0.93, 0.03, 0.04]])
    called, evidence = by_brute_force(probs, truth)
    renamings = Renamings(3, Relabels())
    known, _ = renamings.learn(np.array(truth), likely_of(probs, truth))
    assert np.log(known).sum() == pytest.approx(np.log(evidence), abs=1e-9)
    np.testing.assert_allclose([renamings.share(0, one) for one in range(3)], called, atol=1e-9)


def rows_of(random, truth, classes, sure=0.9):
    """(N, C) probabilities of a member that is right so often, as sure as it should be."""
    probs = np.full((len(truth), classes), (1 - sure) / (classes - 1))
    said = np.where(random.random(len(truth)) < sure, truth, random.integers(classes, size=len(truth)))
    probs[np.arange(len(truth)), said] = sure
    return probs


@pytest.mark.parametrize("classes", [2, 10, 77])
def test_a_class_that_is_renamed_is_believed_to_be_within_few_labels_of_it_and_back_again(classes):
    random = np.random.default_rng(classes)
    truth = random.integers(classes, size=120 * classes)
    probs, labels = rows_of(random, truth, classes), truth.copy()
    away = slice(40 * classes, 80 * classes)
    labels[away] = np.where(truth[away] == 1, 0, truth[away])
    _, changes = Renamings(classes, Relabels()).learn(labels, likely_of(probs, labels))
    held = [Relabels()] * len(truth)
    for at, one in changes:
        held[at:] = [one] * (len(truth) - at)
    renamed = np.array([1 in one.columns and one.columns[1].get(0, 0.0) > 0.7 for one in held])
    of_it = np.cumsum(truth == 1)
    first, back = int(np.argmax(renamed)), 80 * classes + int(np.argmax(~renamed[80 * classes :]))
    assert not renamed[: 40 * classes].any()
    assert of_it[first] - of_it[40 * classes] <= 10
    assert of_it[back] - of_it[80 * classes] <= 10


def test_classes_that_members_merely_confuse_are_not_renamed():
    random = np.random.default_rng(0)
    truth = random.integers(3, size=3000)
    said = np.where((truth == 1) & (random.random(3000) < 0.4), 0, truth)
    probs = np.full((3000, 3), 0.005)
    probs[np.arange(3000), said] = 0.99
    _, changes = Renamings(3, Relabels()).learn(truth, likely_of(probs, truth))
    assert all(not one.columns for _, one in changes)


def test_what_one_member_still_knows_by_its_name_is_renamed_to_nobody():
    truth = np.arange(400) % 2
    right = np.where(truth[:, None] == [0, 1], 0.98, 0.02)
    likely = Likely.of(np.stack([right, right[:, ::-1]]), np.ones((400, 2), np.bool_), truth)
    _, changes = Renamings(2, Relabels()).learn(truth, likely)
    assert not changes


def test_what_is_called_so_already_is_nothing_new():
    random = np.random.default_rng(0)
    truth = random.integers(5, size=500)
    labels = np.where(truth == 1, 0, truth)
    called = Relabels({1: {0: 1.0}})
    renamings = Renamings(5, called)
    _, changes = renamings.learn(labels, likely_of(rows_of(random, truth, 5), labels))
    assert not changes
    assert renamings.held is called


def test_of_rows_the_likeliest_classes_are_kept_and_members_that_are_missing_count_for_nothing():
    random = np.random.default_rng(0)
    values, truth = random.dirichlet(np.ones(6), size=(3, 5)), random.integers(6, size=5)
    present = random.random((5, 3)) > 0.3
    present[:, 0] = True
    likely = Likely.of(values, present, truth)
    for row in range(5):
        mean = values[present[row], row].mean(axis=0)
        np.testing.assert_array_equal(likely.classes[row], np.argsort(-mean)[:4])
        np.testing.assert_allclose(likely.means[row], np.sort(mean)[:1:-1])
        np.testing.assert_allclose(likely.truth[row], mean[truth[row]])
        np.testing.assert_allclose(
            likely.given[row], np.where(present[row][:, None], values[:, row, likely.classes[row]], 0.0), rtol=1e-6
        )
    few = Likely.of(values[..., :2], present, truth % 2)
    assert (few.classes[:, 2:] == NOBODY).all()


def test_labels_are_read_by_other_names_as_answers_are():
    random = np.random.default_rng(0)
    values, truth = random.dirichlet(np.ones(4), size=(3, 40)), random.integers(4, size=40)
    called = Relabels({0: {1: 0.75, 0: 0.25}, 1: {2: 0.98, 1: 0.02}, 3: {1: 1.0}})
    likely = Likely.of(values, np.ones((40, 3), np.bool_), truth)
    cells = called.cells(values[:, np.arange(40), truth].T, truth, likely)
    for member in range(3):
        answers = answers_by([called] * 40, values[member])
        np.testing.assert_allclose(answers.sum(axis=1), 1)
        np.testing.assert_allclose(cells[:, member], answers[np.arange(40), truth], rtol=1e-6)
