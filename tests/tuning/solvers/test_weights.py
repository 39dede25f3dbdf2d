"""Oracles: AutoGluon 1.6.3 EnsembleSelection, scipy's SLSQP, ArviZ 0.23.4's stacking, scikit-learn's metrics, and the
table of 19 constants.
"""

import numpy as np
import pytest
import scipy.optimize
import sklearn.metrics
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quorate.tuning import Weights, greedy_path, greedy_weights, score_weights, simplex_weights
from quorate.tuning.errors import PredictionError, TuningError
from quorate.tuning.solvers.columns import Columns
from quorate.tuning.solvers.simplex import solve_rows

pytestmark = pytest.mark.long


def predictions(members, rows, classes, seed, twins=False):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = rng.normal(size=(members, rows, classes)) + rng.normal(size=(rows, classes))
    logits[:, np.arange(rows), labels] += rng.uniform(0.5, 1.5, members)[:, None]
    probs = np.exp(logits)
    probs /= probs.sum(-1, keepdims=True)
    if twins:  # every second member repeats the one before it, and probabilities are coarse: ties abound
        probs[1::2] = probs[::2]
        probs = np.round(probs, 1)
        probs[..., 0] += 1 - probs.sum(-1)
        probs = np.clip(probs, 0, 1)
        probs /= probs.sum(-1, keepdims=True)
    return probs, labels


# How often each member was chosen by EnsembleSelection(25, "multiclass", metric).fit(list(probs), labels) of
# autogluon.core 1.6.3, numpy 2.4.6: (predictions' arguments, metric, counts, members unnamed have none).
AUTOGLUON = [
    ((20, 500, 5, 0), "log_loss", {0: 7, 3: 7, 7: 1, 8: 1, 10: 7, 15: 1}),
    ((20, 500, 5, 1), "log_loss", {3: 3, 4: 4, 5: 2, 9: 3, 10: 4, 13: 4, 17: 1}),
    ((20, 500, 5, 2), "log_loss", {1: 7, 3: 2, 7: 3, 12: 4, 15: 1}),
    ((12, 60, 3, 6, True), "log_loss", {1: 12, 10: 13}),
    ((12, 60, 3, 7, True), "log_loss", {0: 9, 3: 12, 4: 3, 11: 1}),
    ((12, 60, 3, 8, True), "log_loss", {0: 11, 3: 8, 9: 5}),
    ((12, 200, 4, 0), "accuracy", {4: 4, 5: 1, 8: 1, 9: 1, 11: 2}),
    ((12, 200, 4, 1), "accuracy", {3: 2, 4: 4, 8: 2, 10: 3, 11: 3}),
]


@pytest.mark.parametrize(("arguments", "metric", "counts"), AUTOGLUON, ids=lambda v: str(v)[:20])
def test_greedy_weights_are_autogluons_to_the_last_bit(arguments, metric, counts):
    probs, labels = predictions(*arguments)
    expected = np.zeros(len(probs))
    for member, count in counts.items():
        expected[member] = count / sum(counts.values())
    if expected.sum() < 1:  # its _calculate_weights
        expected /= expected.sum()
    np.testing.assert_array_equal(greedy_weights(probs, labels, metric=metric).values, expected)


@pytest.mark.parametrize("trailing", [(), (1,)])
def test_greedy_selection_on_nineteen_constants_is_the_published_table(trailing):
    values = np.tile(np.arange(1, 20.0)[:, None], (1, 100))
    for member in range(1, 20):
        values[member - 1, 5 * member : 5 * member + 5] = 5.5 * member
    target = np.full(100, 5.5)
    path = greedy_path(values.reshape(19, 100, *trailing), target, rounds=10, metric="rmse")
    assert path.losses == (
        3.462297, 2.679202, 2.274863, 2.065717, 1.787456, 1.698345, 1.559451, 1.531633, 1.380195, 1.355498,
    )  # fmt: skip
    weights = greedy_weights(values, target, rounds=10, metric="rmse")
    np.testing.assert_allclose(weights.values, [0.1, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1] + [0.0] * 11)
    assert weights.score == pytest.approx(1.355498, abs=1e-6)


@pytest.mark.parametrize("metric", ["brier", "accuracy", "balanced_accuracy", "f1_macro", "roc_auc"])
def test_greedy_shortcuts_choose_as_scikit_learns_metric_does(metric):
    probs, labels = predictions(8, 300, 4, 3)
    losses = {
        "brier": lambda y, p: ((p - np.eye(4)[y]) ** 2).sum(1).mean(),
        "accuracy": lambda y, p: 1 - sklearn.metrics.accuracy_score(y, p.argmax(1)),
        "balanced_accuracy": lambda y, p: 1 - sklearn.metrics.balanced_accuracy_score(y, p.argmax(1)),
        "f1_macro": lambda y, p: 1 - sklearn.metrics.f1_score(y, p.argmax(1), average="macro"),
        "roc_auc": lambda y, p: 1 - sklearn.metrics.roc_auc_score(y, p, multi_class="ovr"),
    }
    by_name = greedy_weights(probs, labels, metric=metric)
    by_function = greedy_weights(probs, labels, metric=losses[metric])
    np.testing.assert_allclose(by_name.values, by_function.values)
    expected = by_function.score if metric == "brier" else 1 - by_function.score
    assert by_name.score == pytest.approx(expected, abs=1e-12)


def slsqp(loss, members):
    found = scipy.optimize.minimize(
        loss,
        np.full(members, 1 / members),
        bounds=[(0, 1)] * members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    return found.x, found.fun


@pytest.mark.parametrize("seed", range(4))
def test_simplex_log_loss_is_no_worse_than_scipys_solver(seed):
    probs, labels = predictions(7, 400, 5, seed)
    weights = simplex_weights(probs, labels)

    def loss(w):
        return sklearn.metrics.log_loss(labels, np.tensordot(w / w.sum(), probs, axes=1), labels=range(5))

    expected, best = slsqp(loss, 7)
    assert weights.score <= best + 1e-9
    assert weights.score == pytest.approx(loss(weights.values), abs=1e-12)
    np.testing.assert_allclose(weights.values, expected, atol=2e-3)
    assert weights.gap is not None
    assert weights.gap <= 1e-8


# Pointwise log scores of four models on twelve rows, and the weights of arviz 0.23.4:
# az.compare({name: ELPDData with these loo_i}, method="stacking", ic="loo"), to the six digits that its solver settles.
ARVIZ = [
    (
        [
            [-0.341, -0.253, -0.073, -0.089, -0.217, -0.864, -1.538, -0.473, -0.44, -1.858, -0.445, -0.431],
            [-0.436, -1.338, -2.335, -0.263, -0.104, -0.336, -0.188, -0.37, -1.976, -1.203, -0.236, -0.604],
            [-1.992, -3.223, -0.372, -1.112, -2.715, -0.092, -0.08, -0.107, -0.111, -0.797, -0.614, -1.149],
            [-0.871, -0.172, -2.755, -3.026, -2.184, -1.3, -0.105, -0.742, -0.329, -0.416, -1.76, -0.212],
        ],
        [0.72043, 0.150366, 0.129204, 0.0],
    ),
    (
        [
            [-1.469, -0.56, -0.357, -0.631, -0.49, -0.773, -1.174, -0.213, -0.278, -1.354, -2.352, -3.391],
            [-0.428, -2.091, -0.964, -0.393, -0.531, -0.62, -0.527, -0.82, -2.664, -2.209, -0.081, -0.134],
            [-0.903, -0.12, -2.278, -1.218, -0.266, -2.72, -1.2, -1.604, -0.136, -0.438, -0.483, -0.124],
            [-0.724, -0.143, -0.519, -0.665, -3.392, -1.38, -0.53, -1.472, -0.536, -1.419, -0.183, -0.378],
        ],
        [0.182014, 0.384305, 0.301838, 0.131843],
    ),
]


@pytest.mark.parametrize(("scores", "expected"), ARVIZ, ids=["one without weight", "all with weight"])
def test_simplex_log_loss_is_arvizs_stacking_of_predictive_distributions(scores, expected):
    right = np.exp(scores)
    probs = np.stack([1 - right, right], axis=-1)
    np.testing.assert_allclose(simplex_weights(probs, np.ones(12, int)).values, expected, atol=2e-4)


@pytest.mark.parametrize("metric", ["brier", "rmse"])
def test_simplex_squared_error_is_no_worse_than_scipys_solver(metric):
    probs, labels = predictions(6, 300, 3, 5)
    if metric == "rmse":
        probs, labels = probs[:, :, 1], (labels == 1).astype(float)

    def loss(w):
        fused = np.tensordot(w, probs, axes=1)
        if metric == "rmse":
            return np.sqrt(sklearn.metrics.mean_squared_error(labels, fused))
        return ((fused - np.eye(3)[labels]) ** 2).sum(axis=1).mean()

    _, best = slsqp(loss, 6)
    weights = simplex_weights(probs, labels, metric=metric)
    assert weights.score == pytest.approx(loss(weights.values), abs=1e-12)
    assert weights.score <= best + 1e-9
    assert weights.gap is not None
    assert weights.gap <= 1e-8


def test_simplex_squared_error_of_an_exact_mixture_is_scipys_nnls():
    """Where the best non-negative weights sum to one by themselves, the simplex changes nothing."""
    members = np.random.default_rng(0).normal(size=(5, 200))
    truth = np.array([0.5, 0.0, 0.2, 0.3, 0.0]) @ members
    expected, _ = scipy.optimize.nnls(members.T, truth)
    np.testing.assert_allclose(simplex_weights(members, truth, metric="rmse").values, expected, atol=1e-6)


def test_two_members_right_on_different_rows_get_the_shares_of_cover():
    # member 0 is sure of 3 rows and gives the others nothing, member 1 the reverse: weights are the shares, 3/4 and 1/4
    probs = np.array([[[1.0, 0.0]] * 3 + [[1.0, 0.0]], [[0.0, 1.0]] * 3 + [[0.0, 1.0]]])
    weights = simplex_weights(probs, np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(weights.values, [0.75, 0.25], atol=1e-9)
    assert weights.score == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))


def test_the_gap_bounds_what_better_weights_could_gain():
    probs, labels = predictions(6, 500, 4, 0)
    best = simplex_weights(probs, labels)
    for metric in ("log_loss", "brier"):
        greedy, best = greedy_weights(probs, labels, rounds=3, metric=metric), simplex_weights(probs, labels, metric)
        assert greedy.gap is not None
        assert 0 < greedy.score - best.score <= greedy.gap


@settings(max_examples=60)
@example(2, 45, 2, 1, True)  # the same weights, whose losses of 8.8 differ in their last bit
@given(st.integers(1, 12), st.integers(1, 60), st.integers(2, 5), st.integers(0, 10**6), st.booleans())
def test_any_predictions_are_solved_to_a_proven_gap(members, rows, classes, seed, hard):
    rng = np.random.default_rng(seed)
    # Dirichlet(0.02) rows are nearly one-hot, with probabilities down to zero
    probs = rng.dirichlet(np.full(classes, 0.02 if hard else 1.0), size=(members, rows))
    probs = np.round(probs, 3) if hard else probs
    labels = rng.integers(0, classes, rows)
    for metric in ("log_loss", "brier"):
        solved = simplex_weights(probs, labels, metric)
        assert solved.values.min() >= 0
        assert solved.values.sum() == pytest.approx(1)
        assert solved.gap is not None
        assert solved.gap <= 1e-4
        assert solved.score <= greedy_weights(probs, labels, metric=metric).score + solved.gap


def test_many_rows_go_through_a_sample_to_the_same_weights():
    probs, labels = predictions(5, 45_000, 3, 2)
    weights = simplex_weights(probs, labels)
    assert weights.gap is not None
    assert weights.gap <= 1e-9
    _, best = slsqp(lambda w: -np.log(w @ probs[:, np.arange(len(labels)), labels]).mean(), 5)
    assert weights.score <= best + 1e-9


def test_a_row_that_every_member_gets_wrong_counts_the_same_everywhere():
    probs, labels = predictions(3, 50, 3, 1)
    probs[:, 7] = 0.0
    probs[:, 7, (labels[7] + 1) % 3] = 1.0
    solved, picked = simplex_weights(probs, labels), greedy_weights(probs, labels)
    for weights in (solved, picked):
        fused = np.tensordot(weights.values, probs, axes=1)
        assert weights.score == pytest.approx(sklearn.metrics.log_loss(labels, fused, labels=range(3)), abs=1e-9)
        assert score_weights(probs, labels, weights.values)[0] == pytest.approx(weights.score, abs=1e-12)


@pytest.mark.parametrize("metric", ["log_loss", "brier", "accuracy", "f1_macro"])
def test_many_candidates_score_as_scikit_learn_scores_each(metric):
    probs, labels = predictions(4, 2050, 3, 9)
    candidates = np.random.default_rng(0).dirichlet(np.ones(4), 150) * 3
    scores = score_weights(probs, labels, candidates, metric)
    assert scores.shape == (150,)
    for weights, score in list(zip(candidates, scores, strict=True))[::25]:
        fused = np.tensordot(weights / 3, probs, axes=1)
        expected = {
            "log_loss": lambda f: sklearn.metrics.log_loss(labels, f),
            "brier": lambda f: ((f - np.eye(3)[labels]) ** 2).sum(1).mean(),
            "accuracy": lambda f: sklearn.metrics.accuracy_score(labels, f.argmax(1)),
            "f1_macro": lambda f: sklearn.metrics.f1_score(labels, f.argmax(1), average="macro"),
        }[metric](fused)
        assert score == pytest.approx(expected, abs=1e-12)


@given(
    members=st.integers(1, 4), rows=st.integers(1, 12), classes=st.integers(2, 7), levels=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)  # fmt: skip
@settings(deadline=None)
def test_accuracies_where_nearly_everything_ties_are_those_of_argmax(members, rows, classes, levels, seed):
    random = np.random.default_rng(seed)
    probs = random.integers(0, levels + 1, (members, rows, classes)) / 4  # sums of quarters are exact: ties stay ties
    labels = random.integers(0, classes, rows)
    weights = random.multinomial(8, np.full(members, 1 / members), 20) / 8
    expected = [(np.tensordot(w, probs, axes=1).argmax(1) == labels).mean() for w in weights]
    np.testing.assert_allclose(score_weights(probs, labels, weights, "accuracy"), expected, atol=1e-12)


def test_accuracies_of_candidates_count_ties_as_argmax_does():
    probs, labels = predictions(6, 700, 4, 3, True)
    probs = np.round(probs * 8) / 8  # sums of eighths are exact: ties are ties in any order of adding
    candidates = np.random.default_rng(0).integers(0, 3, (60, 6)) + np.eye(6, dtype=int)[0]
    candidates = candidates[np.isin(candidates.sum(1), [1, 2, 4, 8])]
    assert len(candidates) > 5
    expected = [sklearn.metrics.accuracy_score(labels, np.tensordot(w, probs, axes=1).argmax(1)) for w in candidates]
    np.testing.assert_allclose(score_weights(probs, labels, candidates, "accuracy"), expected, atol=1e-12)
    agreed = np.stack([np.eye(3)] * 2)
    np.testing.assert_array_equal(score_weights(agreed, np.array([0, 1, 1]), [[1, 1], [1, 3]], "accuracy"), [2 / 3] * 2)


def test_float32_predictions_give_the_weights_of_float64():
    probs, labels = predictions(5, 300, 4, 4)
    for solve in (simplex_weights, greedy_weights):
        for metric in ("log_loss", "brier"):
            single = solve(probs.astype(np.float32), labels, metric=metric)
            np.testing.assert_allclose(single.values, solve(probs, labels, metric=metric).values, atol=1e-4)


def test_one_member_has_all_the_weight():
    probs, labels = predictions(1, 20, 3, 0)
    for weights in (simplex_weights(probs, labels), greedy_weights(probs, labels)):
        assert isinstance(weights, Weights)
        assert weights.values.tolist() == [1.0]
        assert weights.gap == pytest.approx(0, abs=1e-12)


PROBS, LABELS = predictions(2, 10, 3, 0)


@pytest.mark.parametrize(
    ("probs", "labels", "said"),
    [
        (PROBS[0], LABELS, r"\(M, N, C\) probabilities"),
        (PROBS, LABELS[:9], r"\(N,\) labels"),
        (PROBS, LABELS + 1, "from 0 to 2"),
        (PROBS, LABELS.astype(float), "whole numbers"),
        (PROBS[:, :0], LABELS[:0], "none of them empty"),
        (PROBS * 9 - 4, LABELS, "softmax"),
        (np.where(np.arange(3) == 1, np.nan, PROBS), np.ones(10, int), "member 0: 10 predictions are NaN"),
    ],
)
@pytest.mark.parametrize("solve", [simplex_weights, greedy_weights])
def test_predictions_that_do_not_fit_are_refused(solve, probs, labels, said):
    with pytest.raises(PredictionError, match=said):
        solve(probs, labels)


def test_impossible_questions_are_refused():
    with pytest.raises(TuningError, match="accuracy, balanced_accuracy"):
        greedy_weights(PROBS, LABELS, metric="auc")
    with pytest.raises(TuningError, match="use greedy_weights"):
        simplex_weights(PROBS, LABELS, metric="accuracy")
    with pytest.raises(TuningError, match="at least 1"):
        greedy_weights(PROBS, LABELS, rounds=0)
    with pytest.raises(PredictionError, match="NaN for every member"):
        greedy_weights(PROBS, LABELS, metric=lambda labels, fused: float("nan"))
    for candidates in ([[0.5, -0.5]], [[0.0, 0.0]], [[1.0, 1.0, 1.0]], [[np.nan, 1.0]]):
        with pytest.raises(PredictionError, match="weights >= 0"):
            score_weights(PROBS, LABELS, candidates)


@pytest.mark.parametrize("solve", [simplex_weights, greedy_weights])
def test_what_is_no_number_is_refused_in_a_sentence(solve):
    probs, labels = predictions(2, 10, 3, 0)
    with pytest.raises(PredictionError, match="labels of classes are their indices, not their names"):
        solve(probs, labels.astype(str))
    with pytest.raises(PredictionError, match="<U1 predictions"):
        solve([[["a", "b"]]], [0])


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro"])
def test_greedy_over_votes_does_not_stop_at_the_best_member(metric):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 2000)
    said = np.where(rng.random((5, 2000)) < 0.7, labels, rng.integers(0, 4, (5, 2000)))
    votes = np.eye(4)[said]
    found = greedy_weights(votes, labels, metric=metric)
    assert (found.values > 0).sum() >= 3
    alone = max(score_weights(votes, labels, one, metric) for one in np.eye(5))
    assert found.score > alone + 0.05
    together = sklearn.metrics.accuracy_score(labels, np.tensordot(found.values, votes, axes=1).argmax(axis=1))
    assert together > 0.8


def test_a_start_that_is_near_takes_fewer_passes_to_the_same_weights():
    random = np.random.default_rng(3)
    columns = random.uniform(0.05, 1, size=(5, 4000)) * random.uniform(0.5, 1, size=(5, 1))

    class Counted(Columns):
        passes = 0

        def slopes(self, weights):
            Counted.passes += 1
            return super().slopes(weights)

    cold = solve_rows(Counted(columns[:, :3900]))
    Counted.passes = 0
    anew = solve_rows(Counted(columns))
    without, Counted.passes = Counted.passes, 0
    warm = solve_rows(Counted(columns), cold)
    assert Counted.passes < without
    np.testing.assert_allclose(warm, anew, atol=1e-4)
