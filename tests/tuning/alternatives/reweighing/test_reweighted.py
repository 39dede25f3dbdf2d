"""Weights of the incumbent's own rule: every rule that takes weights gets them, by what is compared by."""

import numpy as np
import pytest
from scipy.special import softmax

from quorate.fusion.registry import RULES
from quorate.tuning import Outputs, Recipe, choose
from quorate.tuning.alternatives.base import answers_of, as_lists
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
    options = {
        "cascade": {"stages": [["a", "b"], ["c", "d"]], "thresholds": [0.8]},
        "bayesian_model_averaging": {"log_evidence": {"a": 3.0, "b": 2.0, "c": 0.0, "d": 3.0}},
    }.get(rule, {})
    weights = dict.fromkeys(NAMES, 1.0) if entry.needs_weights else None
    recipe = Recipe(rule, NAMES, weights, options, classes=TAGS if entry.sequences else ())
    if entry.sequences:
        return of_tags, row_metric("span_f1", classes=TAGS), recipe
    if entry.decides:
        return of_labels, row_metric("f1_micro", task="multilabel"), recipe
    if entry.lists:
        return of_lists, row_metric(None, task="ranking"), recipe
    if entry.ascending:
        return of_quantiles, row_metric(None, task="quantiles", levels=(0.1, 0.5, 0.9)), recipe
    return of_classes, row_metric("accuracy"), recipe


WEIGHTED = [name for name, entry in RULES.items() if entry.weighted and entry.reads != ("features",)]


@pytest.mark.parametrize("rule", WEIGHTED)
def test_every_rule_that_takes_weights_gets_better_ones_and_stays_that_rule(rule):
    make, metric, incumbent = scene(rule)
    solve, judge = make(seed=1), make(seed=2)
    choice = choose(solve, judge, metric=metric, incumbent=incumbent)
    own = [name for name, recipe in choice.recipes.items() if recipe.rule == rule and recipe.weights is not None]
    fitted = [name for name in own if name != "incumbent"]
    assert fitted, f"nothing fits the weights of {rule}: {choice.left_out}"
    recipe = choice.recipes[fitted[0]]
    assert max(NAMES, key=lambda name: recipe.weights[name]) == NAMES[GOOD]
    before, after = (metric.loss(judge, answers_of(one, judge)) for one in (incumbent, recipe))
    assert after < before
