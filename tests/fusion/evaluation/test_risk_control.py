"""Promises about new rows are kept as often as was stated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from quorate.fusion import fit_cascade, fit_rejection
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.evaluation.risk_control import mean_p_value, passed, share_p_value

pytestmark = pytest.mark.long


def test_p_value_of_a_share_is_that_of_the_binomial_test() -> None:
    for errors, rows, most in ((0, 10, 0.2), (3, 50, 0.1), (7, 40, 0.1)):
        assert share_p_value(errors, rows, most) == pytest.approx(binomtest(errors, rows, most, "less").pvalue)
    assert share_p_value(0, 0, 0.1) == 1.0


@pytest.mark.parametrize(("worse", "better"), [(0.02, 0.0), (0.05, 0.03), (0.5, 0.48)])
def test_p_value_of_a_mean_is_small_as_rarely_as_it_says(worse: float, better: float) -> None:
    random, most = np.random.default_rng(0), worse - better  # the truth is just what is tested
    drawn = random.random((2000, 500))
    losses = (drawn < worse).astype(int) - ((drawn >= worse) & (drawn < worse + better))
    p_values = np.array([mean_p_value(row, most) for row in losses])
    assert (p_values <= 0.05).mean() <= 0.05
    assert (p_values <= 0.2).mean() <= 0.2


def test_a_loss_that_is_clearly_small_is_shown() -> None:
    losses = np.zeros(800)
    losses[::400] = 1
    assert mean_p_value(losses, 0.03) < 0.05
    assert mean_p_value(np.zeros(10), 0.01) > 0.5
    assert mean_p_value(np.ones(10), 1.0) == 0.0
    outputs, labels = members(np.random.default_rng(0), 40)
    free = fit_cascade(["weak", "strong"], [["weak"], ["strong"]], outputs, labels, max_loss=1.0, confidence=0.9)
    assert free.thresholds[0] <= outputs[0].amax(dim=-1).quantile(0.1)  # whatever is lost is allowed


def test_tests_go_on_from_each_start_until_one_fails() -> None:
    p_values = [0.2, 0.001, 0.001, 0.5, 0.001]
    assert passed(p_values.__getitem__, [0], 5, 0.05) == []
    assert passed(p_values.__getitem__, [0, 1], 5, 0.05) == [1, 2]
    assert passed(p_values.__getitem__, [0, 1, 4], 5, 0.05) == [1, 2, 4]


def said(random: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose most probable class is the true one as often as it says."""
    sure = random.beta(4, 1, rows) / 2 + 0.5
    labels = (random.random(rows) > sure).astype(np.int64)
    return np.stack([sure, 1 - sure], axis=1), labels


def test_errors_among_rows_that_are_answered_stay_below_the_risk_in_new_rows() -> None:
    random, kept, answered = np.random.default_rng(0), [], []
    for _ in range(100):
        threshold = fit_rejection(*said(random, 800), 0.08, confidence=0.9).threshold
        fresh, labels = said(random, 20_000)
        above = fresh[:, 0] >= threshold
        kept.append(labels[above].mean() <= 0.08 if above.any() else True)
        answered.append(above.mean())
    assert np.mean(kept) >= 0.9
    assert np.mean(answered) > 0.3
    plain = [labels_below(random) for _ in range(100)]
    assert np.mean(plain) < 0.75  # without a confidence the risk is kept on the given rows alone


def labels_below(random: np.random.Generator) -> bool:
    threshold = fit_rejection(*said(random, 800), 0.08).threshold
    fresh, labels = said(random, 20_000)
    return bool(labels[fresh[:, 0] >= threshold].mean() <= 0.08)


def members(random: np.random.Generator, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A weak and a strong member of ten classes."""
    labels = random.integers(0, 10, rows)
    logits = random.normal(0, 1, (2, rows, 10))
    logits[:, np.arange(rows), labels] += np.array([[3.5], [6.0]])
    return torch.from_numpy(2 * logits).softmax(dim=-1).float(), torch.from_numpy(labels)


def test_a_cascade_loses_no_more_than_stated_on_new_rows() -> None:
    random, kept, early = np.random.default_rng(1), [], []
    fresh, truth = members(random, 50_000)
    right = fresh.mean(dim=0).argmax(dim=-1) == truth
    for seed in range(100):
        outputs, labels = members(random, 2000)
        cascade = fit_cascade(
            ["weak", "strong"], [["weak"], ["strong"]], outputs, labels, max_loss=0.02, confidence=0.9, seed=seed
        )
        leaves = fresh[0].amax(dim=-1) >= cascade.thresholds[0]
        answered = torch.where(leaves, fresh[0].argmax(dim=-1) == truth, right)
        kept.append(float(right.float().mean() - answered.float().mean()) <= 0.02)
        early.append(float(leaves.float().mean()))
    assert np.mean(kept) >= 0.9
    assert np.mean(early) > 0.5


@pytest.mark.parametrize("confidence", [0.0, 1.0, 2.0])
def test_confidence_that_is_no_share_is_refused(confidence: float) -> None:
    probs, labels = said(np.random.default_rng(0), 20)
    with pytest.raises(RuleOptionError, match="confidence"):
        fit_rejection(probs, labels, 0.1, confidence=confidence)
    outputs, truth = members(np.random.default_rng(0), 20)
    with pytest.raises(RuleOptionError, match="confidence"):
        fit_cascade(["a", "b"], [["a"], ["b"]], outputs, truth, confidence=confidence)
