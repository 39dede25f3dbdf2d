"""Conformal sets and intervals, against MAPIE's and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores import AbsoluteConformityScore
from mapie.regression import SplitConformalRegressor
from sklearn.datasets import load_digits, make_friedman1
from sklearn.linear_model import LogisticRegression, Ridge

from quorate.fusion.calibration.conformal import fit_conformal, prediction_intervals, prediction_sets
from quorate.fusion.errors import RuleOptionError


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_are_those_of_mapie(coverage: float) -> None:
    pixels, labels = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=200).fit(pixels[:300] + 0.0, labels[:300])
    theirs = SplitConformalClassifier(model, confidence_level=coverage, conformity_score="lac", prefit=True)
    theirs.conformalize(pixels[300:900], labels[300:900])
    _, expected = theirs.predict_set(pixels[900:])
    threshold = fit_conformal(model.predict_proba(pixels[300:900]), labels[300:900], coverage)
    found = prediction_sets(model.predict_proba(pixels[900:]), threshold)
    assert np.array_equal(found, expected[:, :, 0])


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_intervals_are_those_of_mapie(coverage: float) -> None:
    rows, values = make_friedman1(900, noise=1.0, random_state=0)
    model = Ridge().fit(rows[:300], values[:300])
    theirs = SplitConformalRegressor(
        model, confidence_level=coverage, conformity_score=AbsoluteConformityScore(), prefit=True
    ).conformalize(rows[300:600], values[300:600])
    _, expected = theirs.predict_interval(rows[600:])
    threshold = fit_conformal(model.predict(rows[300:600])[:, None], values[300:600], coverage)
    found = prediction_intervals(model.predict(rows[600:])[:, None], threshold)
    np.testing.assert_allclose(found, expected[:, :, 0], rtol=1e-9)


def test_coverage_is_what_was_asked_for_over_many_draws() -> None:
    random, coverage = np.random.default_rng(0), 0.9
    held = []
    for _ in range(400):
        probs = random.dirichlet(np.ones(4), 600)
        labels = (probs.cumsum(axis=1) > random.random((600, 1))).argmax(axis=1)
        sets = prediction_sets(probs[500:], fit_conformal(probs[:500], labels[:500], coverage))
        held.append(sets[np.arange(100), labels[500:]].mean())
    assert coverage - 0.005 < np.mean(held) < coverage + 0.01


def test_by_class_every_class_is_covered() -> None:
    random, coverage, rows = np.random.default_rng(1), 0.9, 40_000
    labels = (random.random(rows) < 0.1).astype(int)  # a rare class that is hard
    right = np.where(labels == 1, random.beta(2, 2, rows), random.beta(8, 1, rows))
    probs = np.where(labels[:, None] == [0, 1], right[:, None], 1 - right[:, None])
    half = rows // 2

    def held(by_class: bool) -> list[float]:
        sets = prediction_sets(probs[half:], fit_conformal(probs[:half], labels[:half], coverage, by_class))
        truth = labels[half:]
        return [float(sets[truth == one, one].mean()) for one in (0, 1)]

    assert held(by_class=False)[1] < 0.75
    np.testing.assert_allclose(held(by_class=True), coverage, atol=0.02)


def test_rows_too_few_to_promise_anything_leave_everything_in() -> None:
    probs, labels = np.array([[0.9, 0.1]] * 8), np.zeros(8, dtype=np.int64)
    assert fit_conformal(probs, labels, 0.9) == np.inf
    assert prediction_sets(probs, np.inf).all()
    assert fit_conformal(np.array([[0.9, 0.1]] * 9), np.zeros(9, dtype=np.int64), 0.9) == pytest.approx(0.1)


@pytest.mark.parametrize("coverage", [0.0, 1.0, -1.0, 1.5, float("nan")])
def test_coverage_that_is_no_share_is_refused(coverage: float) -> None:
    with pytest.raises(RuleOptionError, match="above 0 and below 1"):
        fit_conformal(np.ones((20, 2)) / 2, np.zeros(20, dtype=np.int64), coverage)


def sizes(scores: np.ndarray, coverage: float) -> float:
    """The conformal quantile, by numpy."""
    return float(np.quantile(scores, np.ceil((len(scores) + 1) * coverage) / len(scores), method="inverted_cdf"))


def test_all_of_several_values_are_in_their_intervals_at_once_each_by_its_own_scale() -> None:
    random, coverage, units = np.random.default_rng(2), 0.9, np.array([1.0, 50.0])
    held, widths = [], []
    for _ in range(300):
        truth = random.normal(size=(600, 2)) * units
        fused = truth + random.standard_t(4, size=(600, 2)) * units
        threshold = fit_conformal(fused[:500], truth[:500], coverage, columns="values", scales=units)
        ends = prediction_intervals(fused[500:], threshold, "values")
        held.append(((ends[..., 0] <= truth[500:]) & (truth[500:] <= ends[..., 1])).all(axis=1).mean())
        widths.append((ends[..., 1] - ends[..., 0]).mean(axis=0))
    assert coverage - 0.01 < np.mean(held) < coverage + 0.015
    first, second = np.mean(widths, axis=0)
    assert second / first == pytest.approx(50)
    scores = (np.abs(fused - truth) / units)[:500].max(axis=1)
    np.testing.assert_allclose(threshold, sizes(scores, coverage) * units)


def test_a_set_of_labels_holds_all_that_are_true() -> None:
    random, coverage, rows = np.random.default_rng(3), 0.9, 40_000
    probs = random.beta(0.5, 0.5, (rows, 4)) * np.array([1.0, 1.0, 0.8, 0.3])
    truth = (random.random(probs.shape) < probs).astype(float)
    truth[: rows // 10] = 0  # rows of which no label is true are in any set
    order, half = random.permutation(rows), rows // 2
    ours, theirs = order[:half], order[half:]
    sets = prediction_sets(probs[theirs], fit_conformal(probs[ours], truth[ours], coverage, columns="labels"))
    assert (sets | (truth[theirs] == 0)).all(axis=1).mean() == pytest.approx(coverage, abs=0.01)
    assert sets.mean() < 0.9
    each = prediction_sets(probs[theirs], fit_conformal(probs[ours], truth[ours], coverage, True, columns="labels"))
    for label in range(4):
        assert each[truth[theirs][:, label] > 0, label].mean() == pytest.approx(coverage, abs=0.03)


def test_intervals_of_means_with_variances_are_wide_where_these_are() -> None:
    random, coverage = np.random.default_rng(4), 0.8
    spread = random.uniform(0.1, 3.0, 4000)
    truth = random.normal(size=4000)
    fused = np.stack([truth + spread * random.normal(size=4000), (2 * spread) ** 2], axis=1)  # less sure than it is
    threshold = fit_conformal(fused[:2000], truth[:2000], coverage, columns="moments")
    scores = np.abs(fused[:, 0] - truth) / (2 * spread)
    assert threshold == pytest.approx(sizes(scores[:2000], coverage))
    ends = prediction_intervals(fused[2000:], threshold, "moments")
    assert ((ends[:, 0] <= truth[2000:]) & (truth[2000:] <= ends[:, 1])).mean() == pytest.approx(coverage, abs=0.03)
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 4 * threshold * spread[2000:])
    several = np.concatenate([fused[:, :1], fused[:, :1], fused[:, 1:], fused[:, 1:]], axis=1)
    both = prediction_intervals(several, threshold, "moments")
    np.testing.assert_allclose(both[2000:, 1], ends)
