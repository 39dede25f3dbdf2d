"""Calibration, thresholds and abstention."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from quorate.fusion import Mean, Threshold
from quorate.fusion.calibration.calibration import KINDS, Calibration, fit_calibration
from quorate.fusion.calibration.decision import ABSTAINED, fit_rejection, fit_thresholds
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.evaluation.measures import log_loss

RANDOM = np.random.default_rng(1)


def drawn(
    temperature: float, bias: NDArray[np.float64], rows: int = 60_000
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows whose truth follows softmax(logits / temperature + bias) while the model claims softmax(logits)."""
    logits = 2 * RANDOM.normal(size=(rows, 3))
    truth = torch.tensor(logits / temperature + bias).softmax(-1).numpy()
    labels = (truth.cumsum(-1) > RANDOM.random((rows, 1))).argmax(-1)
    return torch.tensor(logits).softmax(-1).numpy().astype(np.float32), labels


def test_fit_finds_the_temperature_and_the_bias_that_made_the_labels() -> None:
    claimed, labels = drawn(2.5, np.zeros(3))
    assert 1 / fit_calibration("temperature", claimed, labels).scale[0] == pytest.approx(2.5, rel=0.05)
    bias = np.array([0.8, -0.5, -0.3])
    claimed, labels = drawn(1.0, bias)
    assert fit_calibration("bias", claimed, labels).bias == pytest.approx(bias, abs=0.05)
    claimed, labels = drawn(2.0, bias)
    vector = fit_calibration("vector", claimed, labels)
    assert vector.bias == pytest.approx(bias, abs=0.06)
    assert vector.scale == pytest.approx([0.5] * 3, rel=0.08)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "floor"])
@pytest.mark.parametrize("seed", range(3))
def test_fit_ends_where_the_slope_of_the_loss_is_zero(kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = 4 * random.normal(size=(400, 6))
    labels = (logits / 3 + random.gumbel(size=logits.shape)).argmax(axis=1)
    probabilities = torch.tensor(logits).softmax(-1).numpy()
    fitted = fit_calibration(kind, probabilities, labels)
    scale, bias = np.array(fitted.scale), np.array(fitted.bias or 0.0)
    wrong = torch.tensor(scale * np.log(probabilities) + bias).softmax(-1).numpy() - np.eye(6)[labels]
    if kind != "bias":
        by_class = (wrong * np.log(probabilities)).mean(axis=0)
        assert np.abs(by_class.sum() if kind == "temperature" else by_class).max() < 1e-7
    if kind != "temperature":
        assert np.abs(wrong.mean(axis=0)).max() < 1e-7


def test_the_floor_is_the_share_of_least_loss_and_makes_an_exact_zero_cost_little() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(3, 0.3), 500)
    probabilities[probabilities < 0.05] = 0.0
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = (probabilities.cumsum(axis=1) > random.random((500, 1))).argmax(axis=1)
    labels[:20] = random.integers(0, 3, 20)  # what the member holds for impossible happens
    found = fit_calibration("floor", probabilities, labels)
    right = probabilities[np.arange(500), labels]
    shares = np.logspace(-9, np.log10(0.5), 2000)[:, None]
    losses = -np.log((1 - shares) * right + shares / 3).mean(axis=1)
    assert found.floor == pytest.approx(float(shares[losses.argmin(), 0]), rel=0.02)
    fixed = found.apply(torch.from_numpy(probabilities)).numpy()
    np.testing.assert_allclose(fixed, (1 - found.floor) * probabilities + found.floor / 3, rtol=1e-5)
    assert log_loss(labels, fixed) < log_loss(labels, probabilities) - 0.3
    assert fit_calibration("floor", fixed.astype(np.float64), labels).floor < 1e-3  # nothing is left to do


def test_temperature_of_two_classes_is_logistic_regression_without_intercept() -> None:
    logits = RANDOM.normal(size=(500, 1)) * 2
    labels = (RANDOM.random(500) < 1 / (1 + np.exp(-0.6 * logits[:, 0]))).astype(int)
    theirs = LogisticRegression(C=1e10, fit_intercept=False, tol=1e-10).fit(logits, labels).coef_[0, 0]
    claimed = torch.tensor(np.concatenate([0 * logits, logits], axis=1)).softmax(-1).numpy()
    assert fit_calibration("temperature", claimed, labels).scale[0] == pytest.approx(theirs, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_calibration_lowers_the_loss_before_and_after_pooling(kind: str) -> None:
    claimed, labels = drawn(3.0, np.array([0.5, 0.0, -0.5]), rows=2000)
    calibration = fit_calibration(kind, claimed, labels)
    members = torch.tensor(np.stack([claimed, claimed]))
    before = Mean(2).fuse(calibration.apply(members)).values.numpy()
    after = calibration.apply(Mean(2).fuse(members).values).numpy()
    assert log_loss(labels, before) < log_loss(labels, claimed)
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-7)


def test_calibration_survives_the_spec_and_leaves_bad_rows_bad() -> None:
    classes = ["0", "1", "2"]
    for calibration in (
        Calibration((0.4, 0.5, 0.6), (0.1, 0.0, -0.1)),
        Calibration((0.25,)),
        Calibration(floor=0.01),
        Calibration((0.5,), (0.1, 0.0, -0.1), 0.02),
        Calibration((0.5,), (0.1, 0.0, -0.1)),
        Calibration(),
    ):
        words = json.loads(json.dumps(calibration.to_spec(classes)))
        assert Calibration.from_spec(words, classes) == calibration
    by_name = Calibration.from_spec({"bias": {"a": 1.0, "b": 2.0}}, ["b", "a"])
    assert by_name.bias == (2.0, 1.0)
    row = torch.tensor([[0.2, float("nan"), 0.3]])
    assert torch.isnan(calibration.apply(row)).any()
    torch.testing.assert_close(Calibration().apply(torch.tensor([[0.2, 0.8, 0.0]])), torch.tensor([[0.2, 0.8, 0.0]]))


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(RuleOptionError, match="temperature or bias or vector"):
        fit_calibration("platt", np.ones((2, 2)) / 2, np.array([0, 1]))


def test_no_other_threshold_has_a_higher_f1() -> None:
    truth = RANDOM.random((80, 3)) < [0.2, 0.5, 0.8]
    scores = ((truth + RANDOM.normal(size=(80, 3))) * 4).round().astype(np.float32) / 4
    thresholds = fit_thresholds(scores, truth)
    for c in range(3):
        best = max(f1_score(truth[:, c], scores[:, c] >= t) for t in np.unique(scores[:, c]))
        assert f1_score(truth[:, c], scores[:, c] >= thresholds[c]) == pytest.approx(best)


def test_fitted_thresholds_are_what_the_rule_reads() -> None:
    scores = np.array([[0.9, 0.1], [0.6, 0.2], [0.2, 0.3]], dtype=np.float32)
    truth = np.array([[True, False], [True, False], [False, False]])
    rule = Threshold(1, threshold=fit_thresholds(scores, truth))
    assert np.array_equal(rule.fuse(torch.tensor(scores).unsqueeze(0)).values.numpy() > 0, truth)


def test_rejection_answers_the_most_rows_at_the_risk_allowed() -> None:
    confidence = np.array([0.99, 0.95, 0.9, 0.9, 0.8, 0.7, 0.6])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0, 0, 1, 0, 0, 1, 1])
    found = fit_rejection(probabilities, labels, max_risk=0.25)
    assert (found.threshold, found.coverage, found.risk) == (0.8, 5 / 7, 0.2)
    assert found.decide(probabilities).tolist() == [0, 0, 0, 0, 0, ABSTAINED, ABSTAINED]
    # The rows at 0.9 stand or fall together: no threshold lies between them.
    assert fit_rejection(probabilities, labels, max_risk=0.0).threshold == 0.95
    assert fit_rejection(probabilities, 1 - labels, max_risk=0.0).coverage == 0.0
