"""How long a fusion takes beside the bare numpy expression: ``OMP_NUM_THREADS=1 python benchmarks/fusion.py``.

Each rule fuses B=64 rows of C=1000 classes from M=8 members on one core, alternating with the expression that one
would write without masks, contributions or checks. Prints the median of each, and the ratio of the
medians with its spread over five rounds. Times are the thread's CPU time, so that a machine shared with others says
something too.
"""

# M members, B batch, C classes

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from scipy.special import softmax

from quorate import fusion
from quorate.fusion.evaluation.diversity import diversity

MEMBERS, BATCH, CLASSES = 8, 64, 1000
ROUNDS, CALLS = 5, 20

Call = Callable[[], Any]


def median_s(call: Call, calls: int = CALLS) -> float:
    times = []
    for _ in range(calls):
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    return statistics.median(times)


def beside(ours: Call, bare: Call, calls: int = CALLS) -> str:
    for call in (ours, bare):
        median_s(call, 3)
    rounds = [(median_s(ours, calls), median_s(bare, calls)) for _ in range(ROUNDS)]
    ratios = sorted(one / other for one, other in rounds)
    one, other = (statistics.median(column) * 1e3 for column in zip(*rounds, strict=True))
    return f"{one:8.3f} {other:8.3f}   {statistics.median(ratios):5.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def normal(values: np.ndarray) -> np.ndarray:
    return values / values.sum(axis=-1, keepdims=True)


def votes(p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    counts = np.zeros(p.shape[1:], dtype=np.float32)
    rows = np.arange(p.shape[1])
    for weight, choice in zip(weights, p.argmax(axis=-1), strict=True):
        counts[rows, choice] += weight
    return counts / weights.sum()


def dempster(p: np.ndarray, reliability: np.ndarray) -> np.ndarray:
    r = reliability[:, None, None]
    undecided = (1 - r).prod(axis=0)
    return normal((r * p + 1 - r).prod(axis=0) - undecided + undecided / p.shape[-1])


def moments(p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    means, variances = np.split(p, 2, axis=-1)
    mean = np.average(means, axis=0, weights=weights)
    return np.concatenate([mean, np.average(variances + means**2, axis=0, weights=weights) - mean**2], axis=-1)


def precision(p: np.ndarray) -> np.ndarray:
    means, variances = np.split(p, 2, axis=-1)
    total = (1 / variances).sum(axis=0)
    return np.concatenate([(means / variances).sum(axis=0) / total, 1 / total], axis=-1)


def rank(p: np.ndarray) -> np.ndarray:
    return p.argsort(axis=-1).argsort(axis=-1)


def closed_form_rules() -> None:
    outputs = (2 * torch.randn(MEMBERS, BATCH, CLASSES, generator=torch.Generator().manual_seed(0))).softmax(dim=-1)
    p = outputs.numpy()
    weights = list(np.linspace(0.05, 0.9, MEMBERS))
    w = np.array(weights)
    rules: list[tuple[str, Any, Call]] = [
        ("Mean", fusion.Mean(MEMBERS), lambda: p.mean(axis=0)),
        ("Mean, summed in float64", fusion.Mean(MEMBERS), lambda: p.mean(axis=0, dtype=np.float64)),
        ("WeightedMean", fusion.WeightedMean(weights), lambda: np.average(p, axis=0, weights=w)),
        ("SoftVote", fusion.SoftVote(MEMBERS, weights), lambda: np.average(p, axis=0, weights=w)),
        (
            "GeometricMean",
            fusion.GeometricMean(MEMBERS, weights),
            lambda: softmax(np.average(np.log(np.maximum(p, 1e-12)), axis=0, weights=w), axis=-1),
        ),
        ("Product", fusion.Product(MEMBERS), lambda: normal(p.prod(axis=0))),
        ("Product, in float64", fusion.Product(MEMBERS), lambda: normal(p.prod(axis=0, dtype=np.float64))),
        ("Maximum", fusion.Maximum(MEMBERS), lambda: normal(p.max(axis=0))),
        ("Minimum", fusion.Minimum(MEMBERS), lambda: normal(p.min(axis=0))),
        ("Median", fusion.Median(MEMBERS), lambda: normal(np.median(p, axis=0))),
        (
            "TrimmedMean",
            fusion.TrimmedMean(MEMBERS, 0.2),
            lambda: normal(np.sort(p, axis=0)[1:-1].mean(axis=0)),
        ),
        ("MajorityVote", fusion.MajorityVote(MEMBERS), lambda: votes(p, np.ones(MEMBERS))),
        ("WeightedVote", fusion.WeightedVote(weights), lambda: votes(p, w)),
        (
            "Threshold",
            fusion.Threshold(MEMBERS, weights),
            lambda: (np.average(p, axis=0, weights=w) >= 0.5).astype(np.float32),
        ),
        ("Borda", fusion.Borda(MEMBERS, weights), lambda: normal(np.average(rank(p), axis=0, weights=w))),
        (
            "ReciprocalRank",
            fusion.ReciprocalRank(MEMBERS),
            lambda: normal((1 / (60 + CLASSES - rank(p))).mean(axis=0)),
        ),
        ("BayesianModelAveraging", fusion.BayesianModelAveraging(weights), lambda: np.average(p, axis=0, weights=w)),
        ("DempsterShafer", fusion.DempsterShafer(MEMBERS, weights), lambda: dempster(p, w)),
        ("RegressionMedian", fusion.RegressionMedian(MEMBERS), lambda: np.median(p, axis=0)),
        ("InverseVariance", fusion.InverseVariance(MEMBERS), lambda: precision(p)),
        ("MixtureMoments", fusion.MixtureMoments(MEMBERS, weights), lambda: moments(p, w)),
        (
            "QuantileAverage",
            fusion.QuantileAverage(MEMBERS, weights),
            lambda: np.average(np.sort(p, axis=-1), axis=0, weights=w),
        ),
    ]
    print(f"M={MEMBERS} B={BATCH} C={CLASSES}        ours ms    numpy    ratio (spread)")
    for name, rule, bare in rules:
        print(f"{name:26s}{beside(lambda rule=rule: rule.fuse(outputs), bare)}")
    ascending = outputs.sort(dim=-1).values
    quantiles = fusion.QuantileAverage(MEMBERS, weights)
    bare_quantiles = beside(lambda: quantiles.fuse(ascending), lambda: np.average(ascending.numpy(), axis=0, weights=w))
    print(f"{'QuantileAverage, ascending':26s}{bare_quantiles}")


def members_missing() -> None:
    """One member absent from every row, or each from a tenth of them, beside the complete call."""
    outputs = torch.randn(MEMBERS, BATCH, CLASSES, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    late = torch.ones(MEMBERS, BATCH, dtype=torch.bool)
    late[3] = False
    scattered = torch.rand(MEMBERS, BATCH, generator=torch.Generator().manual_seed(1)) < 0.9
    print(f"M={MEMBERS} B={BATCH} C={CLASSES}       missing ms   complete  ratio (spread)")
    for rule in (fusion.Mean(MEMBERS), fusion.WeightedMean([1.0, 2.0] * 4), fusion.GeometricMean(MEMBERS)):
        for what, mask in (("one late", late), ("scattered", scattered)):
            line = beside(lambda r=rule, m=mask: r.fuse(outputs, m), lambda r=rule: r.fuse(outputs))
            print(f"{type(rule).__name__ + ', ' + what:26s}{line}")


def large() -> None:
    outputs = torch.rand(3, 1024, 4096, generator=torch.Generator().manual_seed(0))
    p, rule = outputs.numpy(), fusion.Mean(3)
    print(f"Mean M=3, 16 MiB a member {beside(lambda: rule.fuse(outputs), lambda: p.mean(axis=0), 3)}")


def serving_size() -> None:
    rule = fusion.WeightedMean([0.5, 0.2, 0.3])
    for batch in (1, 64):
        outputs = torch.randn(3, batch, 10).softmax(dim=-1)
        missing = torch.ones(3, batch, dtype=torch.bool)
        missing[0, 0] = False
        complete = median_s(lambda o=outputs: rule.fuse(o), 500)
        masked = median_s(lambda o=outputs, m=missing: rule.fuse(o, m), 500)
        print(f"WeightedMean M=3 B={batch} C=10: {complete * 1e6:.0f} us, with a member missing {masked * 1e6:.0f} us")


def all_pairs() -> None:
    correct = np.random.default_rng(0).random((50, 100_000)) < 0.8
    print(f"diversity of all pairs, 50 members x 100,000 rows: {median_s(lambda: diversity(correct), 10):.4f} s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    closed_form_rules()
    members_missing()
    large()
    serving_size()
    all_pairs()
