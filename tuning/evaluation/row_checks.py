"""Are solving and judging rows of one kind, and has no member seen the solving rows before?"""

# M members, N rows, C classes, G groups

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from quorate.tuning.alternatives.base import Outputs
from quorate.tuning.evaluation.bayesian_bootstrap import group_numbers, group_sums
from quorate.tuning.scoring import Floats, true_class
from quorate.tuning.solvers.ranking import ndcg

# A finding by chance in a thousand runs.
_RARE = 1e-3
# A member whose log-loss on solving rows is below this share of that on judging rows has seen them.
_BY_HEART = 0.5
# Enough for a chance of one in a thousand; and more groups than this a side are first added up at random into so many.
_DRAWS, _MOST_GROUPS = 4000, 500
ONLY_JUDGING = "therefore only judging rows count as evidence"


def shifts(solve: Outputs, judge: Outputs) -> list[str]:
    """What differs between the two beyond chance, each as a sentence; empty where nothing does.

    The class mix by a chi-squared test, what members say by Kolmogorov-Smirnov tests of their confidence (Rabanser,
    Guennemann and Lipton 2019, "Failing Loudly"), each at one in a thousand over all tests. Rows of a group are no
    independent draws: there whole groups change sides, and confidence and true values are a group's mean.
    """
    found = []
    if solve.of_values:
        ours, theirs = (_by_group(_true_values(one), one).T for one in (solve, judge))
        columns = zip(ours, theirs, strict=True)
        p_values = [float(stats.ks_2samp(one, two, method="asymp").pvalue) for one, two in columns]
        p_value = min(p_values) * len(p_values)
        return [f"true values are others in judging rows than in solving rows (p = {p_value:.1g})"] * (p_value < _RARE)
    p_value = _same_mix(solve, judge)
    if p_value < _RARE:
        found.append(f"classes are mixed otherwise in solving rows than in judging rows (p = {p_value:.1g})")
    for name, ours, theirs in zip(solve.names, solve.probs, judge.probs, strict=True):
        sure = [_by_group(member.max(axis=1)[:, None], one)[:, 0] for member, one in ((ours, solve), (theirs, judge))]
        p_value = float(stats.ks_2samp(*sure, method="asymp").pvalue) * len(solve.names)
        if p_value < _RARE:
            found.append(f"{name} is not as confident on solving rows as on judging rows (p = {p_value:.1g})")
    return found


def _same_mix(solve: Outputs, judge: Outputs) -> float:
    """The chance of classes mixed so differently, were both of one kind."""
    ours, theirs = (np.eye(one.classes)[one.labels] for one in (solve, judge))
    counts = np.stack([ours.sum(axis=0), theirs.sum(axis=0)])
    some = counts.sum(axis=0) > 0
    if some.sum() < 2:
        return 1.0
    if solve.groups is None or judge.groups is None:
        return float(stats.chi2_contingency(counts[:, some]).pvalue)
    sums = [_added_up(hot[:, some], one.groups) for hot, one in ((ours, solve), (theirs, judge))]
    groups, first = np.concatenate(sums), np.arange(len(sums[0]) + len(sums[1])) < len(sums[0])
    random = np.random.default_rng(0)
    sides = np.stack([first, *(random.permutation(first) for _ in range(_DRAWS))]).astype(np.float64)
    one, total = sides @ groups, groups.sum(axis=0)
    expected = one.sum(axis=1, keepdims=True) * total / total.sum()
    differences = ((one - expected) ** 2 * (1 / expected + 1 / (total - expected))).sum(axis=1)
    return float((differences >= differences[0] * (1 - 1e-12)).mean())


def _added_up(numbers: Floats, groups: NDArray[Any] | None) -> Floats:
    """(G, C) sums over the rows of a group, or of several drawn at random where there are many."""
    number = group_numbers(groups, len(numbers))
    if number.max() >= _MOST_GROUPS:
        number = (np.random.default_rng(0).permutation(number.max() + 1) % _MOST_GROUPS)[number]
    return group_sums(numbers, number)


def _by_group(numbers: Floats, outputs: Outputs) -> Floats:
    """Means over the rows of each group; the rows themselves where each stands alone."""
    if outputs.groups is None:
        return numbers
    number = group_numbers(outputs.groups, len(numbers))
    return np.asarray(group_sums(numbers, number) / np.bincount(number)[:, None])


def _true_values(outputs: Outputs) -> Floats:
    """(N, K) of each row; of a list how relevant its entries are on average, which are no independent draws."""
    return np.nanmean(outputs.labels, axis=1, keepdims=True) if outputs.lists else outputs.truth


def known_by_heart(solve: Outputs, judge: Outputs) -> list[str]:
    """Members that did much better on solving rows than on judging rows, each as a sentence; of groups their means."""
    ours, theirs = (_by_group(_losses(one).T, one).T for one in (solve, judge))
    unit = "short of the best NDCG" if solve.lists else "mean squared error" if solve.of_values else "nats"
    found = []
    for name, seen, new in zip(solve.names, ours, theirs, strict=True):
        p_value = float(stats.mannwhitneyu(seen, new, alternative="less").pvalue) * len(solve.names)
        if seen.mean() < _BY_HEART * new.mean() and p_value < _RARE:
            found.append(
                f"{name} has {seen.mean():.4f} {unit} on solving rows and {new.mean():.4f} on judging rows: it seems "
                "to have been trained on the former; give rows that no member has seen"
            )
    return found


def _losses(outputs: Outputs) -> Floats:
    """(M, N) what each member loses on each row: nats, the squared error, or of lists what NDCG lacks of 1."""
    if outputs.lists:
        return np.stack([1 - ndcg(outputs.labels, scores) for scores in outputs.probs])
    if outputs.of_values:
        said = outputs.probs[:, :, : outputs.truth.shape[1]]  # means come before variances
        return np.asarray(((said - outputs.truth) ** 2).mean(axis=2))
    return np.asarray(-np.log(true_class(outputs.probs, outputs.labels)))
