import numpy as np
import pytest
import sklearn.metrics

from quorate.tuning import pattern_weights, simplex_weights
from quorate.tuning.errors import TuningError


def predictions(members, rows, classes, seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    logits = random.normal(size=(members, rows, classes))
    logits[:, np.arange(rows), labels] += random.uniform(0.5, 2, members)[:, None]
    probs = np.exp(logits)
    return probs / probs.sum(-1, keepdims=True), labels


def test_each_pattern_has_the_weights_solved_for_it_alone():
    probs, labels = predictions(4, 300, 3, 0)
    full = simplex_weights(probs, labels).values
    patterns = pattern_weights(probs, labels, full, max_missing=2)
    assert len(patterns) == 1 + 4 + 6
    assert patterns[0].present == (0, 1, 2, 3)
    for pattern in patterns:
        present = list(pattern.present)
        alone = simplex_weights(probs[present], labels)
        np.testing.assert_allclose(pattern.solved.values, alone.values, atol=1e-6)
        left = full[present] / full[present].sum()
        fused = np.tensordot(left, probs[present], axes=1)
        assert pattern.rescaled_log_loss == pytest.approx(sklearn.metrics.log_loss(labels, fused))
        assert pattern.solved.score <= pattern.rescaled_log_loss + 1e-9


def test_a_pattern_without_weight_cannot_be_rescaled():
    probs, labels = predictions(2, 50, 3, 1)
    patterns = pattern_weights(probs, labels, [1.0, 0.0])
    assert {p.present: np.isinf(p.rescaled_log_loss) for p in patterns} == {(0, 1): False, (0,): False, (1,): True}


def test_impossible_patterns_are_refused():
    probs, labels = predictions(2, 50, 3, 1)
    with pytest.raises(TuningError, match="give 0 to 1"):
        pattern_weights(probs, labels, [0.5, 0.5], max_missing=2)
    with pytest.raises(TuningError, match="one per member"):
        pattern_weights(probs, labels, [1.0])
