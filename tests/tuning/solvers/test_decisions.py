"""Oracles: all weights and biases of a fine grid on tiny cases, scikit-learn's metrics, Bayes' border for costs."""

from itertools import product

import numpy as np
import pytest
import sklearn.metrics
import torch

from quorate.fusion import WeightedMean
from quorate.tuning import decision_weights, evolved_weights, greedy_weights, simplex_weights
from quorate.tuning.errors import TuningError

pytestmark = pytest.mark.long

SKLEARN = {
    "accuracy": sklearn.metrics.accuracy_score,
    "balanced_accuracy": sklearn.metrics.balanced_accuracy_score,
    "f1_macro": lambda y, d: sklearn.metrics.f1_score(y, d, average="macro", zero_division=0.0),
}


def predictions(members, rows, classes, seed, shares=None):
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, rows, p=shares)
    labels[:classes] = np.arange(classes)
    logits = rng.normal(size=(members, rows, classes)) + rng.normal(size=(rows, classes))
    logits[:, np.arange(rows), labels] += rng.uniform(0.3, 1.2, members)[:, None]
    logits += np.log(np.bincount(labels, minlength=classes) / rows)
    probs = np.exp(logits)
    return probs / probs.sum(-1, keepdims=True), labels


def brute_force(probs, labels, score):
    """The best score of any weights in steps of 1/20 and biases in steps of 1/8 from -2.5 to 2.5, the first at 0."""
    biases = np.array([[0.0, *rest] for rest in product(np.arange(-2.5, 2.51, 0.125), repeat=probs.shape[2] - 1)])
    best = -np.inf
    for share in np.linspace(0, 1, 21):
        logs = np.log(share * probs[0] + (1 - share) * probs[1])
        best = max(best, score(labels, (logs + biases[:, None]).argmax(2)).max())
    return best


@pytest.mark.parametrize("metric", SKLEARN)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_weights_and_biases_of_a_fine_grid_decide_better(metric, classes, seed):
    probs, labels = predictions(2, 24, classes, seed)
    if classes == 3 and metric != "accuracy":
        probs, labels = probs[:, :14], labels[:14]
    found = decision_weights(probs, labels, metric, restarts=20)
    assert found.score >= brute_force(probs, labels, FAST[metric]) - 1e-12


def fast_recalls(labels, decided):
    return np.mean([(decided[:, labels == c] == c).mean(1) for c in np.unique(labels)], axis=0)


def fast_f1(labels, decided):
    """Of labels among which every class is."""
    classes = [(labels == c, decided == c) for c in np.unique(labels)]
    return np.mean([2 * (true & named).sum(1) / (true.sum() + named.sum(1)) for true, named in classes], axis=0)


# Of many decisions, (D, N), at once.
FAST = {"accuracy": lambda y, d: (y == d).mean(1), "balanced_accuracy": fast_recalls, "f1_macro": fast_f1}


@pytest.mark.parametrize("metric", SKLEARN)
def test_the_fast_scores_are_scikit_learns(metric):
    _, labels = predictions(2, 24, 3, 0)
    decided = np.random.default_rng(0).integers(3, size=(50, 24))
    found = FAST[metric](labels, decided)
    np.testing.assert_allclose(found, [SKLEARN[metric](labels, row) for row in decided])


@pytest.mark.parametrize("metric", SKLEARN)
def test_the_score_is_scikit_learns_and_no_worse_than_the_starts(metric):
    probs, labels = predictions(5, 400, 4, 3, shares=[0.7, 0.2, 0.07, 0.03])
    found = decision_weights(probs, labels, metric)
    decided = found.fuse(probs).argmax(1)
    assert found.score == pytest.approx(SKLEARN[metric](labels, decided), abs=1e-12)
    plain = np.tensordot(simplex_weights(probs, labels).values, probs, axes=1).argmax(1)
    assert found.score >= SKLEARN[metric](labels, plain)
    if metric != "accuracy":  # rare classes: without biases these two suffer
        assert found.score > SKLEARN[metric](labels, plain) + 0.03


def test_decisions_are_what_the_rules_of_fusion_serve():
    probs, labels = predictions(3, 200, 4, 5, shares=[0.6, 0.2, 0.1, 0.1])
    found = decision_weights(probs, labels, "balanced_accuracy")
    pooled = WeightedMean(found.weights.tolist()).fuse(torch.from_numpy(probs)).values
    served = found.calibration.apply(pooled).numpy()
    np.testing.assert_array_equal(served.argmax(1), found.fuse(probs).argmax(1))
    np.testing.assert_allclose(served, found.fuse(probs), atol=1e-5)


def test_the_temperature_changes_no_decision_and_the_probabilities_for_the_better():
    probs, labels = predictions(3, 300, 3, 6)
    sharp = probs**3 / (probs**3).sum(-1, keepdims=True)  # members that are too sure
    found = decision_weights(sharp, labels, "accuracy")
    plain = (
        np.log(np.tensordot(found.weights, sharp, axes=1))
        + np.array(found.calibration.bias) / (found.calibration.scale[0])
    )
    np.testing.assert_array_equal(plain.argmax(1), found.fuse(sharp).argmax(1))
    assert found.calibration.scale[0] < 1
    unscaled = np.exp(plain) / np.exp(plain).sum(1, keepdims=True)
    assert sklearn.metrics.log_loss(labels, found.fuse(sharp)) < sklearn.metrics.log_loss(labels, unscaled)


def test_costs_move_the_border_to_where_bayes_puts_it():
    # One member that knows p(1) exactly, on a grid; missing a 1 costs 9 times a false alarm: decide 1 from p = 0.1 on.
    rng = np.random.default_rng(0)
    p = np.repeat(np.linspace(0.01, 0.99, 99), 200)
    labels = (rng.random(len(p)) < p).astype(int)
    probs = np.stack([1 - p, p], axis=1)[None]
    found = decision_weights(probs, labels, costs=[[0, 1], [9, 0]])
    decided = found.fuse(probs).argmax(1)
    border = p[decided == 1].min()
    assert border == pytest.approx(0.1, abs=0.035)
    assert found.score == pytest.approx(
        (9 * ((labels == 1) & (decided == 0)) + ((labels == 0) & (decided == 1))).mean()
    )
    bayes = p >= 0.1
    assert found.score <= (9 * ((labels == 1) & ~bayes) + ((labels == 0) & bayes)).mean()


def test_the_same_seed_finds_the_same():
    probs, labels = predictions(4, 120, 3, 7)
    first, second = (decision_weights(probs, labels, "f1_macro", seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.weights, second.weights)
    assert first.calibration == second.calibration


def test_rows_that_no_member_gives_any_probability_are_decided_all_the_same():
    probs, labels = predictions(2, 40, 3, 8)
    probs[:, :5] = [0.0, 0.0, 1.0]
    found = decision_weights(probs, labels, "accuracy")
    assert found.score == pytest.approx((found.fuse(probs).argmax(1) == labels).mean())


def test_what_decides_nothing_is_refused():
    probs, labels = predictions(2, 20, 3, 0)
    with pytest.raises(TuningError, match="give one of accuracy"):
        decision_weights(probs, labels, "log_loss")
    for costs in ([[0, 1], [1, 0]], np.full((3, 3), np.nan)):
        with pytest.raises(TuningError, match=r"give \(3, 3\) finite numbers"):
            decision_weights(probs, labels, costs=costs)


def test_cma_es_is_never_worse_than_greedy_and_finds_what_rounds_cannot():
    probs, labels = predictions(4, 300, 2, 9)

    def worst_tenth(truth, fused):
        losses = np.sort(-np.log(np.maximum(fused[np.arange(len(truth)), truth], 1e-12)))
        return losses[-len(losses) // 10 :].mean()

    greedy, evolved = (solve(probs, labels, metric=worst_tenth) for solve in (greedy_weights, evolved_weights))
    assert evolved.score < greedy.score - 1e-4
    assert evolved.values.min() >= 0
    assert evolved.values.sum() == pytest.approx(1)
    grid = [np.array(w) / 20 for w in product(range(21), repeat=4) if sum(w) == 20]
    assert evolved.score <= min(worst_tenth(labels, np.tensordot(w, probs, axes=1)) for w in grid) + 1e-9


def test_cma_es_reaches_the_solved_optimum_of_a_metric_that_has_one():
    probs, labels = predictions(5, 300, 3, 10)
    evolved = evolved_weights(probs, labels, "log_loss", generations=200)
    assert 0 <= evolved.score - simplex_weights(probs, labels).score < 1e-6
    auc = evolved_weights(probs, labels, "roc_auc", generations=10)
    fused = np.tensordot(auc.values, probs, axes=1)
    assert auc.score == pytest.approx(sklearn.metrics.roc_auc_score(labels, fused, multi_class="ovr"))
    assert auc.score >= greedy_weights(probs, labels, metric="roc_auc").score


def test_cma_es_with_one_member_or_no_generation():
    probs, labels = predictions(1, 20, 3, 0)
    assert evolved_weights(probs, labels, "roc_auc").values.tolist() == [1.0]
    with pytest.raises(TuningError, match="at least 1"):
        evolved_weights(probs, labels, "roc_auc", generations=0)
