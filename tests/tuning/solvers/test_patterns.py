import numpy as np
import pytest
import sklearn.metrics

from quorate.tuning import pattern_weights, simplex_weights, worthwhile_patterns
from quorate.tuning.errors import TuningError
from tests.tuning.support.hedged import hedged


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


def test_worthwhile_patterns_gain_on_rows_they_have_not_seen():
    (probs, labels), (others, truth) = hedged(2000, 0), hedged(4000, 1)
    full = simplex_weights(probs, labels).values
    assert (full > 0.05).all()
    found = worthwhile_patterns(probs, labels, full)
    assert (0, 1) in [pattern.present for pattern in found]
    for pattern in found:
        present = list(pattern.present)
        own, rescaled = pattern.solved.values, full[present] / full[present].sum()
        losses = [sklearn.metrics.log_loss(truth, np.tensordot(w, others[present], axes=1)) for w in (own, rescaled)]
        assert losses[0] < losses[1]


def test_patterns_that_serving_never_meets_are_not_solved():
    probs, labels = hedged(2000, 0)
    full = simplex_weights(probs, labels).values
    assert {len(p.present) for p in worthwhile_patterns(probs, labels, full, quorum=2)} == {2}
    assert all(0 in p.present for p in worthwhile_patterns(probs, labels, full, required=[0]))
    muted = np.array([0.5, 0.5, 0.0])
    assert {p.present for p in worthwhile_patterns(probs, labels, muted)} <= {(0,), (1,)}
    assert worthwhile_patterns(probs[:1], labels, [1.0]) == ()


def test_members_without_a_lesson_make_no_pattern():
    probs, labels = predictions(4, 400, 3, 0)
    labels = np.random.default_rng(1).permutation(labels)
    probs[:] = probs.mean(axis=(0, 1))
    assert worthwhile_patterns(probs, labels, np.full(4, 0.25)) == ()


def test_impossible_patterns_are_refused():
    probs, labels = predictions(2, 50, 3, 1)
    with pytest.raises(TuningError, match="give 0 to 1"):
        pattern_weights(probs, labels, [0.5, 0.5], max_missing=2)
    with pytest.raises(TuningError, match="one per member"):
        pattern_weights(probs, labels, [1.0])
