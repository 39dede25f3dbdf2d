"""What numbers of a rule lose on rows, through the fusion that serves; or, where it is a sum, through that sum."""

# M members, N rows, C numbers a row, D numbers searched, K candidates

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.errors import FusionError
from quorate.fusion.loading import build_rule
from quorate.fusion.registry import RULES
from quorate.fusion.sequences.decoding import decode_flat, first_tokens
from quorate.fusion.sequences.span_vote import Ballots, SpanVote
from quorate.tuning.alternatives.base import Outputs, answers_of
from quorate.tuning.alternatives.reweighing.rule_numbers import RuleNumbers
from quorate.tuning.scoring import Floats, true_class
from quorate.tuning.solvers.columns import Columns
from quorate.tuning.solvers.rule_weights import search_numbers
from quorate.tuning.solvers.simplex import solve_rows
from quorate.tuning.solvers.spans import TrueTags, VoteSearch

# Labelled rows and what is answered to them, (N, C), to what that loses: lower is better.
Loss = Callable[[Outputs, NDArray[Any]], float]
# Numbers that members say: of the rows that one candidate is asked about, and of all candidates of a search together,
# where the rule is a sum, and where it has to be asked.
_SUMMED, _SUMMED_SEARCH = 2_000_000, 1_600_000_000
_ASKED, _ASKED_SEARCH = 400_000, 160_000_000
_FEWEST_ROWS = 500
_FEWEST, _MOST, _MORE_EACH = 100, 100, 50
# Rows that a sum may get otherwise than the rule: by ties.
_TIED = 0.05


class Trials(Protocol):
    """Rows that numbers are tried on.

    Attributes:
        outputs: the rows.
        evaluations: candidates that a search asks about.
    """

    @property
    def outputs(self) -> Outputs: ...
    @property
    def evaluations(self) -> int: ...

    def losses(self, candidates: Floats) -> Floats:
        """(K, D) to (K,); infinity for what cannot be used."""

    def starts(self) -> list[Floats]:
        """(D,) each: what a search may begin with beside the incumbent's and equal weights."""

    def rows(self, index: NDArray[np.intp]) -> Trials:
        """Some of them."""


def trials(rule: RuleNumbers, outputs: Outputs, loss: Loss, seed: int) -> Trials:
    """On these rows, or as many of them as a search has time for."""
    outputs = replace(outputs, names=rule.recipe.members, probs=rule.recipe.calibrated(outputs.names, outputs.probs))
    rule = RuleNumbers(replace(rule.recipe, member_calibration={}))
    if RULES[rule.recipe.rule].sequences:
        return VotedSpans(rule, outputs)
    some = _sample(outputs, _SUMMED, seed)
    points = None if _has_more(rule) else _points(rule, some)
    if points is None:
        return Fused(rule, _sample(some, _ASKED, seed), loss)
    return Summed(rule, some, loss, points)


@dataclass(frozen=True)
class Fused:
    """Every candidate is asked as it would be served."""

    rule: RuleNumbers
    outputs: Outputs
    loss: Loss

    @property
    def evaluations(self) -> int:
        dear = 3 if RULES[self.rule.recipe.rule].steered else 1  # a cascade goes through its stages for each threshold
        return _evaluations(_ASKED_SEARCH // dear, self.outputs, len(self.rule.start))

    def losses(self, candidates: Floats) -> Floats:
        return np.array([self._loss(one) for one in candidates])

    def starts(self) -> list[Floats]:
        return []

    def rows(self, index: NDArray[np.intp]) -> Fused:
        return replace(self, outputs=self.outputs.rows(index))

    def _loss(self, one: Floats) -> float:
        try:
            recipe = self.rule.with_numbers(one, self.outputs.probs)
            return known(self.loss(self.outputs, answers_of(recipe, self.outputs)))
        except FusionError:  # thresholds that no row passes, too few members that count
            return np.inf


@dataclass(frozen=True)
class Summed:
    """The rule is the weighted sum of what it makes of each member alone, (M, N, C) points."""

    rule: RuleNumbers
    outputs: Outputs
    loss: Loss
    points: NDArray[np.float32]

    @property
    def evaluations(self) -> int:
        return _evaluations(_SUMMED_SEARCH, self.outputs, len(self.rule.start))

    def losses(self, candidates: Floats) -> Floats:
        flat, shape = self.points.reshape(len(self.points), -1), self.points.shape[1:]
        size, found = max(1, 4_000_000 // max(1, flat.shape[1])), []
        for at in range(0, len(candidates), size):
            sums = candidates[at : at + size].astype(np.float32) @ flat
            found += [known(self.loss(self.outputs, one.reshape(shape))) for one in sums]
        return np.array(found)

    def starts(self) -> list[Floats]:
        """The shares of least log-loss, where it is probabilities of classes that are summed."""
        if self.outputs.of_values:
            return []
        counts = self.outputs.weights
        columns = true_class(np.clip(self.points, 0, 1), self.outputs.labels)
        return [solve_rows(Columns(columns, counts=counts))]

    def rows(self, index: NDArray[np.intp]) -> Summed:
        return replace(self, outputs=self.outputs.rows(index), points=self.points[:, index])


class VotedSpans:
    """A vote on spans: what members say is decoded once, and F1 of whole spans is what counts."""

    def __init__(self, rule: RuleNumbers, outputs: Outputs):
        recipe = rule.recipe
        built = build_rule(recipe.rule, recipe.members, None, recipe.options, None, recipe.classes)
        assert isinstance(built, SpanVote)
        sequences = np.arange(len(outputs)) if outputs.sequences is None else outputs.sequences
        order, first = first_tokens(sequences)
        weights = None if outputs.weights is None else outputs.weights[order]
        self.rule, self.outputs = rule, replace(outputs, sequences=sequences, groups=sequences)
        tags = np.stack([decode_flat(one, sequences, built.scheme)[order] for one in outputs.probs])
        truth = TrueTags(outputs.labels[order], first, built.scheme, weights)
        self._search = VoteSearch(Ballots.of(tags, first, built.scheme), truth, built.policy)

    @property
    def evaluations(self) -> int:
        return _MOST + _MORE_EACH * len(self.rule.start)

    def losses(self, candidates: Floats) -> Floats:
        return np.array([-self._search.f1(one[:-1], float(one[-1])) for one in candidates])

    def starts(self) -> list[Floats]:
        weights, threshold = self._search.solve()
        return [np.append(weights, threshold)]

    def rows(self, index: NDArray[np.intp]) -> VotedSpans:
        return VotedSpans(self.rule, self.outputs.rows(index))


def searched(tried: Trials, rule: RuleNumbers, seed: int) -> Floats:
    """(D,) the numbers that lose least on these rows, never more than those that the recipe has."""
    start, numbers = rule.start, rule.numbers
    starts = np.stack([start, numbers.equal(start), *tried.starts(), *_by_merit(tried, rule)])
    found = search_numbers(tried.losses, numbers, starts, tried.evaluations, seed)
    return _without_the_least(tried, found, numbers.members)


def known(loss: float) -> float:
    """NaN is no loss to be looked for."""
    return np.inf if np.isnan(loss) else float(loss)


def _by_merit(tried: Trials, rule: RuleNumbers) -> list[Floats]:
    """Members that lose less alone count more, in several proportions."""
    members = rule.numbers.members
    alone = np.tile(rule.start, (members, 1))
    alone[:, :members] = np.eye(members)
    losses = tried.losses(alone)
    usable = np.isfinite(losses)
    if not usable.any() or np.ptp(losses[usable]) <= 0:
        return []
    merit = np.where(usable, (losses[usable].max() - losses) / np.ptp(losses[usable]), 0.0)
    found = []
    for power in (1, 3, 9):
        weights = merit**power if rule.numbers.reliabilities else merit**power / (merit**power).sum()
        found.append(np.concatenate([weights, rule.start[members:]]))
    return found


def _without_the_least(tried: Trials, found: Floats, members: int) -> Floats:
    """Members of next to no weight are left out where nothing is lost: each is asked, and costs what any other does."""
    small = (found[:members] > 0) & (found[:members] < 0.01 * found[:members].max())
    if not small.any():
        return found
    less = found.copy()
    less[:members][small] = 0
    if found[:members].sum() <= 1 + 1e-9:
        less[:members] *= found[:members].sum() / less[:members].sum()
    before, after = tried.losses(np.stack([found, less]))
    return less if after <= before else found


def _has_more(rule: RuleNumbers) -> bool:
    """What is done after the sum, or beside it, makes the answer no sum."""
    recipe, entry = rule.recipe, RULES[rule.recipe.rule]
    changed = recipe.calibration is not None or recipe.decision is not None
    return changed or rule.numbers.thresholds > 0 or entry.steered or entry.reliabilities


def _points(rule: RuleNumbers, outputs: Outputs) -> NDArray[np.float32] | None:
    """(M, N, C) what the rule makes of each member alone; None where its answer is no weighted sum of these."""
    points = np.stack([answers_of(rule.alone(member), outputs) for member in range(len(outputs.names))])
    for one in np.random.default_rng(0).dirichlet(np.ones(len(points)), 2):
        fused = answers_of(rule.with_numbers(one), outputs)
        summed = np.tensordot(one.astype(np.float32), points, axes=1)
        scale = np.nanmax(np.abs(fused))
        same = np.isclose(summed, fused, rtol=1e-4, atol=1e-5 * scale, equal_nan=True).all(axis=1)
        if same.mean() < 1 - _TIED:
            return None
    return points


def _sample(outputs: Outputs, most: int, seed: int) -> Outputs:
    """Rows of which members say so many numbers at most; whole sequences where rows are tokens."""
    rows = max(_FEWEST_ROWS, most // (len(outputs.names) * outputs.probs.shape[2]))
    if outputs.sequences is None or len(outputs) <= rows:
        return outputs.sample(rows, seed)
    known_ones, place, lengths = np.unique(outputs.sequences, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(known_ones))
    kept = np.zeros(len(known_ones), dtype=np.bool_)
    kept[order[: max(2, int((lengths[order].cumsum() <= rows).sum()))]] = True
    return outputs.rows(np.flatnonzero(kept[place.reshape(-1)]))


def _evaluations(work: int, outputs: Outputs, numbers: int) -> int:
    return int(np.clip(work // max(1, outputs.probs.size), _FEWEST, _MOST + _MORE_EACH * numbers))
