"""Metrics of each row add up to scikit-learn's, and under drawn weights to what scikit-learn says of weighted rows."""

import numpy as np
import pytest
import sklearn.metrics
from scipy.special import expit, softmax
from scipy.stats import norm

from quorate.tuning import Outputs, choose, row_metric
from quorate.tuning.errors import TuningError
from quorate.tuning.evaluation.bayesian_bootstrap import drawn_means
from quorate.tuning.evaluation.evidence import Sample

pytestmark = pytest.mark.long


def found(metric, labels, fused, counts=None):
    return float(metric.value(np.average(metric.rows(labels, fused, counts), axis=0, weights=counts)))


def classes(rows=300, number=3, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, number, rows)
    logits = random.normal(size=(rows, number)).round(1)  # rounded: some rows are ties
    logits[np.arange(rows), labels] += 1
    return labels, softmax(logits, axis=1).astype(np.float32), random.integers(1, 4, rows).astype(float)


def area(name, labels, fused, counts):
    function = getattr(sklearn.metrics, f"{name}_score")
    if fused.shape[1] == 2:
        return function(labels, fused[:, 1], sample_weight=counts)
    true = labels[:, None] == np.arange(fused.shape[1])
    return np.mean([function(true[:, c], fused[:, c], sample_weight=counts) for c in range(fused.shape[1])])


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
@pytest.mark.parametrize("number", [2, 3])
def test_areas_are_scikit_learns_with_ties_and_with_weights(name, number):
    labels, fused, counts = classes(number=number)
    metric = row_metric(name)
    assert found(metric, labels, fused) == pytest.approx(area(name, labels, fused, None), abs=1e-9)
    assert found(metric, labels, fused, counts) == pytest.approx(area(name, labels, fused, counts), abs=1e-9)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_drawn_areas_spread_as_scikit_learns_under_the_same_kind_of_weights(name):
    labels, fused, _ = classes(number=2)
    other = 0.5 * fused + 0.5 * classes(number=2, seed=1)[1]
    metric = row_metric(name)
    numbers = np.concatenate([metric.rows(labels, one, None) for one in (fused, other)], axis=1)
    draws = metric.value(drawn_means(numbers).reshape(-1, 2, 2))
    random = np.random.default_rng(5)
    theirs = np.array(
        [
            [area(name, labels, one, counts) for one in (fused, other)]
            for counts in random.exponential(size=(500, len(labels)))
        ]
    )
    for ours, their in ((draws, theirs), (np.diff(draws), np.diff(theirs))):
        np.testing.assert_allclose(ours.std(axis=0), their.std(axis=0), rtol=0.1)
        np.testing.assert_allclose(ours.mean(axis=0), their.mean(axis=0), atol=0.01)


def test_a_part_with_one_class_alone_says_nothing_of_areas():
    labels, fused, _ = classes(number=2)
    metric = row_metric("roc_auc")
    parts = [(labels, fused), (np.zeros(5, dtype=int), fused[:5])]
    numbers = np.concatenate([metric.rows(*part, None) for part in parts])
    assert float(metric.value(numbers.mean(axis=0))) == pytest.approx(area("roc_auc", labels, fused, None))


def test_labels_that_each_hold_or_not():
    random = np.random.default_rng(0)
    logits = random.normal(size=(200, 4))
    truth = (random.random((200, 4)) < expit(2 * logits)).astype(float)
    fused = expit(logits).astype(np.float32)
    for name in ("roc_auc", "average_precision"):
        theirs = getattr(sklearn.metrics, f"{name}_score")(truth, fused, average="macro")
        assert found(row_metric(name, task="multilabel"), truth, fused) == pytest.approx(theirs)
    for average in ("macro", "micro"):
        theirs = sklearn.metrics.f1_score(truth, fused >= 0.5, average=average)
        assert found(row_metric(f"f1_{average}", task="multilabel"), truth, fused) == pytest.approx(theirs)


@pytest.mark.parametrize("several", [False, True])
def test_values(several):
    random = np.random.default_rng(0)
    truth = random.normal(50, 3, (200, 2) if several else 200)
    fused = (truth + random.normal(0, 2, truth.shape)).reshape(200, -1)
    counts = random.integers(1, 4, 200).astype(float)
    for name, theirs in (
        ("r2", sklearn.metrics.r2_score),
        ("mae", sklearn.metrics.mean_absolute_error),
        ("crps", sklearn.metrics.mean_absolute_error),
        ("rmse", lambda y, p, **w: sklearn.metrics.mean_squared_error(y, p, **w) ** 0.5),
        ("pinball", lambda y, p, **w: sklearn.metrics.mean_pinball_loss(y, p, alpha=0.5, **w)),
        ("pinball@0.9", lambda y, p, **w: sklearn.metrics.mean_pinball_loss(y, p, alpha=0.9, **w)),
    ):
        metric, flat = row_metric(name, task="regression"), truth.reshape(200, -1)
        assert found(metric, truth, fused) == pytest.approx(theirs(flat, fused), rel=1e-9)
        assert found(metric, truth, fused, counts) == pytest.approx(theirs(flat, fused, sample_weight=counts), rel=1e-9)


def test_quantiles():
    random = np.random.default_rng(0)
    truth, levels = random.normal(size=100), (0.1, 0.5, 0.9)
    fused = np.sort(random.normal(size=(100, 3)), axis=1)
    theirs = np.mean(
        [sklearn.metrics.mean_pinball_loss(truth, q, alpha=a) for q, a in zip(fused.T, levels, strict=True)]
    )
    assert found(row_metric("pinball", task="quantiles", levels=levels), truth, fused) == pytest.approx(theirs)
    assert found(row_metric("crps", task="quantiles", levels=levels), truth, fused) == pytest.approx(2 * theirs)
    with pytest.raises(TuningError, match="evenly spaced"):
        row_metric("crps", task="quantiles", levels=(0.1, 0.25, 0.9))


def test_crps_of_many_even_quantiles_is_the_closed_form_of_a_normal():
    levels = (np.arange(200) + 0.5) / 200
    truth = np.random.default_rng(0).normal(size=500)
    fused = np.tile(norm.ppf(levels), (500, 1))
    # Gneiting and Raftery 2007, eq. 21, of the standard normal.
    closed = truth * (2 * norm.cdf(truth) - 1) + 2 * norm.pdf(truth) - 1 / np.sqrt(np.pi)
    metric = row_metric("crps", task="quantiles", levels=tuple(levels))
    assert found(metric, truth, fused) == pytest.approx(closed.mean(), rel=1e-3)


@pytest.mark.parametrize("top", [None, 3])
def test_ndcg_is_scikit_learns_with_ties_and_lists_of_several_lengths(top):
    random = np.random.default_rng(0)
    lengths = random.integers(2, 9, 40)
    labels, fused = np.full((40, 8), np.nan), np.full((40, 8), np.nan)
    for row, length in enumerate(lengths):
        labels[row, :length] = random.integers(0, 4, length)
        fused[row, :length] = random.integers(0, 5, length) / 4
    metric = row_metric("ndcg" if top is None else f"ndcg@{top}", task="ranking")
    ours = metric.rows(labels, fused, None)[:, 0]
    for row, length in enumerate(lengths):
        theirs = sklearn.metrics.ndcg_score(labels[[row], :length], fused[[row], :length], k=top)
        assert ours[row] == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("name", "task", "sentence"),
    [
        ("rmse", "classification", "give one of log_loss"),
        ("ndcg", "regression", "give one of rmse"),
        ("pinball@0.9", "quantiles", "give one of pinball"),
        ("auc", "ranking", "give one of ndcg"),
        ("pinball@2", "regression", "such as pinball@0.9"),
        ("ndcg@0", "ranking", "such as ndcg@10"),
    ],
)
def test_a_metric_of_another_task_is_a_sentence(name, task, sentence):
    with pytest.raises(TuningError, match=sentence):
        row_metric(name, task=task, levels=(0.1, 0.9))


def test_costs_are_of_classes():
    with pytest.raises(TuningError, match="costs of values"):
        row_metric(None, np.eye(2), "regression")


def test_a_callable_gets_what_the_task_has_and_says_what_each_row_loses():
    random = np.random.default_rng(0)
    truth = random.normal(0, 1, 400)
    said = (truth + random.normal(0, [[0.5], [0.7]], (2, 400)))[:, :, None].astype(np.float32)
    halves = [Outputs(("a", "b"), said[:, part], truth[part]) for part in (slice(0, 200), slice(200, 400))]

    def huber(labels, fused):
        off = np.abs(labels - fused[:, 0])
        return np.where(off < 0.3, off**2 / 2, 0.3 * (off - 0.15))

    choice = choose(*halves, metric=huber)
    assert choice.metric == "huber"
    assert choice.alternatives["a"].value == pytest.approx(huber(truth[200:], said[0, 200:]).mean())
    with pytest.raises(TuningError, match="what each of the 200 rows loses"):
        choose(*halves, metric=lambda labels, fused: np.abs(labels - fused[:, 0]).mean())


def test_intervals_of_areas_hold_for_all_alternatives_at_once():
    """The gains of eight members over one that is as good as they are: none is above chance, in 19 of 20."""
    wrong, trials = 0, 60
    for trial in range(trials):
        random = np.random.default_rng(trial)
        labels = random.integers(0, 2, 300)
        scores = expit((labels - 0.5) + random.normal(size=(8, 300)))
        probs = np.stack([1 - scores, scores], axis=2).astype(np.float32)
        metric = row_metric("roc_auc")
        numbers = np.concatenate([metric.rows(labels, one, None) for one in probs], axis=1)
        sample = Sample(metric, numbers, np.arange(300), None, np.zeros(8), trial)
        wrong += any(gain.low > 0 or gain.high < 0 for gain in sample.intervals(0, range(1, 8)))
    assert wrong <= 0.1 * trials
