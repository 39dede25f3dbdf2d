"""Are solving and judging rows of one kind, and has no member seen the solving rows before?"""

# M members, N rows, C classes

from __future__ import annotations

import numpy as np
from scipy import stats

from quorate.tuning.alternatives.base import Outputs
from quorate.tuning.scoring import Floats, true_class
from quorate.tuning.solvers.ranking import ndcg

# A finding by chance in a thousand runs.
_RARE = 1e-3
# A member whose log-loss on solving rows is below this share of that on judging rows has seen them.
_BY_HEART = 0.5
ONLY_JUDGING = "therefore only judging rows count as evidence"


def shifts(solve: Outputs, judge: Outputs) -> list[str]:
    """What differs between the two beyond chance, each as a sentence; empty where nothing does.

    The class mix by a chi-squared test, what members say by Kolmogorov-Smirnov tests of their confidence (Rabanser,
    Guennemann and Lipton 2019, "Failing Loudly"), each at one in a thousand over all tests.
    """
    found = []
    if solve.of_values:
        ours, theirs = ((one.entries if one.lists else one.truth).T for one in (solve, judge))
        columns = zip(ours, theirs, strict=True)
        p_values = [float(stats.ks_2samp(one, two, method="asymp").pvalue) for one, two in columns]
        p_value = min(p_values) * len(p_values)
        return [f"true values are others in judging rows than in solving rows (p = {p_value:.1g})"] * (p_value < _RARE)
    counts = np.stack([np.bincount(one.labels, minlength=one.classes) for one in (solve, judge)])
    counts = counts[:, counts.sum(axis=0) > 0]
    if counts.shape[1] > 1:
        p_value = float(stats.chi2_contingency(counts).pvalue)
        if p_value < _RARE:
            found.append(f"classes are mixed otherwise in solving rows than in judging rows (p = {p_value:.1g})")
    for name, ours, theirs in zip(solve.names, solve.probs, judge.probs, strict=True):
        p_value = float(stats.ks_2samp(ours.max(axis=1), theirs.max(axis=1), method="asymp").pvalue) * len(solve.names)
        if p_value < _RARE:
            found.append(f"{name} is not as confident on solving rows as on judging rows (p = {p_value:.1g})")
    return found


def known_by_heart(solve: Outputs, judge: Outputs) -> list[str]:
    """Members that did much better on solving rows than on judging rows, each as a sentence."""
    ours, theirs = (_losses(one) for one in (solve, judge))
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
        return np.asarray(((outputs.probs - outputs.truth) ** 2).mean(axis=2))
    return np.asarray(-np.log(true_class(outputs.probs, outputs.labels)))
