"""Weights of the incumbent's own rule: every rule that takes weights gets them, by what is compared by."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from scipy.special import softmax
from scipy.stats import norm

from quorate.fusion import Calibration
from quorate.fusion.calibration.decision import Decision
from quorate.fusion.learned.cascade import Cascade
from quorate.fusion.loading import build_rule
from quorate.fusion.registry import RULES
from quorate.tuning import Outputs, Recipe, simplex_weights
from quorate.tuning.alternatives.base import answers_of, as_lists
from quorate.tuning.alternatives.reweighing.reweighted import Reweighted, reweighted_of
from quorate.tuning.alternatives.unfitted import Incumbent
from quorate.tuning.evaluation.choice import tried_alternatives
from quorate.tuning.evaluation.metrics.row_metrics import row_metric

pytestmark = pytest.mark.long

NAMES = ("a", "b", "c", "d")
NOISE = np.array([4.0, 4.0, 0.5, 4.0])[:, None, None]
GOOD = 2
TAGS = ("O", "B-person", "I-person", "B-place", "I-place")


def of_classes(rows=600, seed=0):
    """Four members that see the truth under noise, the third under little."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, rows)
    said = softmax(3.0 * np.eye(3)[labels] + random.normal(size=(4, rows, 3)) * NOISE, axis=2)
    return Outputs(NAMES, said.astype(np.float32), labels)


def of_labels(rows=600, seed=0):
    random = np.random.default_rng(seed)
    truth = (random.random((rows, 3)) < 0.4).astype(float)
    said = 1 / (1 + np.exp(-(4 * truth - 2 + random.normal(size=(4, rows, 3)) * NOISE)))
    return Outputs(NAMES, said.astype(np.float32), truth)


def of_quantiles(rows=400, seed=0):
    random = np.random.default_rng(seed)
    centre, levels = random.normal(0, 2, rows), (0.1, 0.5, 0.9)
    said = centre[:, None] + np.array([-1.28, 0, 1.28]) + random.normal(size=(4, rows, 1)) * NOISE
    return Outputs(NAMES, said.astype(np.float32), centre + random.normal(size=rows), levels=levels)


def of_moments(rows=400, seed=0):
    """The third says how sure it is, and is; the others are surer than they should be."""
    random = np.random.default_rng(seed)
    truth = random.normal(0, 2, rows)
    means = truth + random.normal(size=(4, rows)) * NOISE[:, :, 0]
    variances = np.broadcast_to(np.array([2.0, 2.0, 0.25, 2.0])[:, None], means.shape)
    return Outputs(NAMES, np.stack([means, variances], axis=2).astype(np.float32), truth, moments=True)


def of_lists(lists=60, length=10, seed=0):
    random = np.random.default_rng(seed)
    hidden = random.normal(size=lists * length)
    said = hidden[:, None] + random.normal(size=(4, lists * length, 1)) * NOISE
    rows = Outputs(NAMES, said.astype(np.float32), np.clip(np.floor(hidden + 1), 0, 3))
    return as_lists(rows, np.repeat(np.arange(lists), length))


def of_tags(sentences=80, length=8, seed=0):
    random = np.random.default_rng(seed)
    labels = np.zeros(sentences * length, dtype=np.int64)
    for start in random.choice(sentences * length // 4, sentences * length // 10, replace=False) * 4:
        kind = 2 * random.integers(0, 2)
        labels[start : start + 2] = (1 + kind, 2 + kind)
    said = softmax(4.0 * np.eye(5)[labels] + random.normal(size=(4, len(labels), 5)) * NOISE * 0.7, axis=2)
    of = np.repeat(np.arange(sentences), length)
    return Outputs(NAMES, said.astype(np.float32), labels, groups=of, sequences=of)


def scene(rule):
    """Rows that a rule fuses, what they are compared by, and the rule without weights of its own."""
    entry = RULES[rule]
    every: dict[str, dict[str, Any]] = {
        "cascade": {"stages": [["a", "b"], ["c", "d"]], "thresholds": [0.8]},
        "bayesian_model_averaging": {"log_evidence": {"a": 3.0, "b": 2.0, "c": 0.0, "d": 3.0}},
    }
    options = every.get(rule, {})
    weights = dict.fromkeys(NAMES, 1.0) if entry.needs_weights else None
    recipe = Recipe(rule, NAMES, weights, options, classes=TAGS if entry.sequences else ())
    if entry.sequences:
        return of_tags, row_metric("span_f1", classes=TAGS), recipe
    if entry.decides:
        return of_labels, row_metric("f1_micro", task="multilabel"), recipe
    if entry.lists:
        return of_lists, row_metric(None, task="ranking"), recipe
    if entry.moments:
        return of_moments, row_metric(None, task="regression", moments=True), recipe
    if entry.ascending:
        return of_quantiles, row_metric(None, task="quantiles", levels=(0.1, 0.5, 0.9)), recipe
    return of_classes, row_metric("accuracy"), recipe


WEIGHTED = [name for name, entry in RULES.items() if entry.weighted and entry.reads != ("features",)]


FITTERS = {"reweighted", "tuned", "tuned_ranks", "tuned_precision", "span_vote"}


def fitter(rule):
    """Rows to solve and to judge on, the metric, the incumbent, and what fits its weights."""
    make, metric, incumbent = scene(rule)
    tried = tried_alternatives(make(seed=1), metric, Incumbent(incumbent))
    for one in tried:
        if one.fitted and one.kind == "ensemble" and one.name in FITTERS:
            recipe = one.fit(make(seed=1), 0)
            if isinstance(recipe, Recipe) and recipe.rule == rule:
                return make(seed=1), make(seed=2), metric, incumbent, recipe
    raise AssertionError(f"tune fits no weights of {rule}: give it a scene here, and see that something does")


@pytest.mark.parametrize("rule", WEIGHTED)
def test_every_rule_that_takes_weights_gets_better_ones_and_stays_that_rule(rule):
    solve, judge, metric, incumbent, recipe = fitter(rule)
    assert max(NAMES, key=lambda name: recipe.weights[name]) == NAMES[GOOD]
    for rows in (solve, judge):
        before, after = (metric.loss(rows, answers_of(one, rows)) for one in (incumbent, recipe))
        assert after < before


RULE_NUMBER = list(enumerate(WEIGHTED))


@pytest.mark.parametrize(("number", "rule"), RULE_NUMBER)
def test_no_weights_that_are_fitted_do_worse_on_their_rows_than_those_that_were_there(number, rule):
    # Few rows, on which chance misleads, and weights that chance drew, good or bad.
    make, metric, incumbent = scene(rule)
    rows, random = make(40, seed=100 + number), np.random.default_rng(number)
    drawn = dict(zip(NAMES, random.dirichlet(np.full(4, 0.5)).tolist(), strict=True))
    incumbent = replace(incumbent, weights=drawn)
    other = Reweighted(incumbent, incumbent, metric.loss).fit(rows, number)
    assert metric.loss(rows, answers_of(other, rows)) <= metric.loss(rows, answers_of(incumbent, rows)) + 1e-12


def test_the_same_seed_gives_the_same_weights():
    rows, metric = of_classes(100), row_metric("log_loss")
    incumbent = Recipe("dempster_shafer", NAMES)
    one, other = (Reweighted(incumbent, incumbent, metric.loss).fit(rows, 7) for _ in range(2))
    assert one == other


def test_a_vote_is_fitted_as_well_as_by_any_weights_of_a_fine_grid():
    rows, metric = of_classes(300, seed=3), row_metric("accuracy")
    three = replace(rows, names=NAMES[:3], probs=rows.probs[:3])
    ballots = np.eye(3)[three.probs.argmax(axis=2)]
    steps = np.linspace(0, 1, 21)
    grid = [
        (np.tensordot([a, b, 1 - a - b], ballots, axes=1).argmax(axis=1) == rows.labels).mean()
        for a in steps
        for b in steps
        if a + b <= 1 + 1e-9
    ]
    incumbent = Recipe("weighted_vote", NAMES[:3], dict.fromkeys(NAMES[:3], 1.0))
    fitted = Reweighted(incumbent, incumbent, metric.loss).fit(three, 0)
    found = (fitted.fuse(three.names, three.probs).argmax(axis=1) == rows.labels).mean()
    assert found == pytest.approx(max(grid))


def test_weights_of_least_log_loss_are_those_that_the_solver_proves():
    rows, metric = of_classes(seed=4), row_metric("log_loss")
    equal = Recipe("soft_vote", NAMES)
    fitted = Reweighted(equal, equal, metric.loss).fit(rows, 0)
    assert metric.loss(rows, answers_of(fitted, rows)) <= simplex_weights(rows.probs, rows.labels).score + 2e-3


def test_of_weights_that_are_as_good_those_next_to_equal_are_taken():
    rows, metric = of_classes(200, seed=5), row_metric("accuracy")
    alike = replace(rows, probs=np.repeat(rows.probs[[GOOD]], 4, axis=0))
    lopsided = Recipe("weighted_vote", NAMES, dict(zip(NAMES, (0.7, 0.1, 0.1, 0.1), strict=True)))
    fitted = Reweighted(lopsided, lopsided, metric.loss).fit(alike, 0)
    assert fitted.weights == pytest.approx(dict.fromkeys(NAMES, 0.25))


def test_a_cascade_asks_as_many_rows_on_as_before():
    rows, metric = of_classes(seed=6), row_metric("log_loss")
    cascade = scene("cascade")[2]
    fitted = Reweighted(cascade, cascade, metric.loss).fit(rows, 0)

    def left_at_once(recipe):
        built = build_rule(recipe.rule, recipe.members, recipe.weights, recipe.options)
        assert isinstance(built, Cascade)
        probs = torch.from_numpy(rows.probs)
        return float(built.decide(0, probs, torch.ones(probs.shape[:2], dtype=torch.bool)).float().mean())

    assert left_at_once(fitted) == pytest.approx(left_at_once(cascade), abs=0.01)
    assert 0.05 < left_at_once(fitted) < 0.95


def test_what_else_the_fusion_does_stays():
    rows, metric = of_labels(seed=7), row_metric("f1_macro", task="multilabel")
    incumbent = Recipe(
        "weighted_mean", NAMES, dict.fromkeys(NAMES, 1.0), {"patterns": [{"a": 1.0}]},
        member_calibration={"a": Calibration((0.7,))}, decision=Decision((0.3, 0.4, 0.5)),
    )  # fmt: skip
    found = reweighted_of(incumbent, "multilabel", metric.name, metric.loss)
    assert found is not None
    fitted = found.fit(rows, 0)
    kept = replace(fitted, weights=incumbent.weights)
    assert kept == replace(incumbent, options={})  # patterns were of the weights as they were


def test_a_majority_vote_may_get_weights():
    found = reweighted_of(Recipe("majority_vote", NAMES), "classification", "accuracy", row_metric("accuracy").loss)
    assert found is not None
    assert found.recipe.rule == "weighted_vote"


def test_what_takes_no_weights_or_is_fitted_anyway_is_not_fitted_twice():
    for recipe, metric in (
        (Recipe("median", NAMES), "log_loss"),
        (Recipe("weighted_vote", ("a",), {"a": 1.0}), "accuracy"),
        (Recipe("weighted_mean", NAMES, dict.fromkeys(NAMES, 1.0)), "log_loss"),
    ):
        assert reweighted_of(recipe, "classification", metric, row_metric(metric).loss) is None


def test_scores_of_means_with_variances_are_those_of_a_normal_distribution():
    rows = of_moments(5)
    fused, truth = answers_of(Recipe("mixture_moments", NAMES), rows).astype(float), rows.labels
    grid = np.linspace(-60, 60, 240_001)

    def crps(value, mean, variance):
        return trapezoid((norm.cdf(grid, mean, variance**0.5) - (grid >= value)) ** 2, grid)

    by_hand = np.mean([crps(value, *one) for value, one in zip(truth, fused, strict=True)])
    assert row_metric("crps", moments=True).loss(rows, fused) == pytest.approx(by_hand, rel=1e-3)
    nll = -norm.logpdf(truth, fused[:, 0], np.sqrt(fused[:, 1])).mean()
    assert row_metric("nll", moments=True).loss(rows, fused) == pytest.approx(nll)
    assert row_metric("mae", moments=True).loss(rows, fused) == pytest.approx(np.abs(truth - fused[:, 0]).mean())
