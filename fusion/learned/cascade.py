"""Cascade: cheap members first, expensive ones only for the rows that are not clear by then.

Wang et al. 2022 (ICLR, "Wisdom of committees"): each stage averages everybody asked so far, and a row leaves at the
first stage that is sure enough. A server asks stage by stage:

    for stage, members in enumerate(cascade.stages):
        call the members for the rows that are left
        done = cascade.decide(stage, outputs, present)   # (B,) bool
    fused = cascade.fuse(outputs, present)               # takes the same decisions again
"""

# M members, B batch, N rows, C classes

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quorate.fusion.base import Fused, Rule
from quorate.fusion.errors import QuorumError, RuleOptionError
from quorate.fusion.evaluation.risk_control import check_confidence, mean_p_value, passed
from quorate.fusion.training import examples

# Confidence and agreement end at 1: a row never leaves at a stage with this threshold.
NEVER = 2.0
# Of the rows that reach a stage, how many leave there: what is tested, the safest first.
_SHARES = tuple(number / 40 for number in range(1, 40))


@dataclass(frozen=True)
class _Stage:
    """What is known of each row after a stage; sums run over the members asked so far.

    Attributes:
        pooled: (B, C) float64, sum of weights times outputs.
        heard: (B,) float64, sum of the weights that answered.
        asked: (B,) float64, sum of the weights that were asked.
        score: (B,) float32, how sure the stage is; -1 where nobody with weight answered.
        leaves: (B,) bool.
    """

    pooled: Tensor
    heard: Tensor
    asked: Tensor
    score: Tensor
    leaves: Tensor


class Cascade(Rule):
    """The weighted mean of everybody asked by the stage at which a row is sure enough to leave.

    ``confidence`` is the largest probability of that mean; ``agreement`` the largest share of the weight of all members
    asked, absent ones included, whose own first choice is one class. A row leaves where that reaches the stage's
    threshold; a stage whose members are all absent decides nothing; the last stage keeps everybody. Coverage is the
    share that answered of the weight that was asked.

    Attributes:
        stages: names of the members to ask at each stage.
        thresholds: one for each stage but the last.
    """

    name = "cascade"

    def __init__(
        self,
        members: Sequence[str],
        stages: Sequence[Sequence[str]],
        thresholds: Sequence[float],
        measure: str = "confidence",
        weights: Sequence[float] | None = None,
    ):
        self.members, self.num_members = tuple(members), len(members)
        self.stages = tuple(tuple(stage) for stage in stages)
        self.thresholds, self.measure = tuple(float(threshold) for threshold in thresholds), measure
        self._check(weights)
        self.spec_weights = None if weights is None else [float(weight) for weight in weights]
        self.options = {
            "stages": [list(stage) for stage in self.stages],
            "thresholds": list(self.thresholds),
            "measure": measure,
        }
        place = {name: number for number, stage in enumerate(self.stages) for name in stage}
        self._stage = torch.tensor([place[name] for name in self.members])
        # A stage's members are added in the order of their names: the order in the spec changes no bit.
        self._rows = [torch.tensor([self.members.index(name) for name in sorted(stage)]) for stage in self.stages]
        self._weights = torch.tensor(self.spec_weights or [1.0] * self.num_members, dtype=torch.float64)

    def _check(self, weights: Sequence[float] | None) -> None:
        listed = [name for stage in self.stages for name in stage]
        if not all(self.stages) or sorted(listed) != sorted(self.members) or not listed:
            fix = f"put each of {', '.join(self.members)} in one stage"
            raise RuleOptionError(self.name, "stages", [list(stage) for stage in self.stages], fix)
        wanted = len(self.stages) - 1
        if len(self.thresholds) != wanted or not all(0 <= threshold < math.inf for threshold in self.thresholds):
            fix = f"give {wanted}, one for each stage but the last, in [0, 1], or above 1 for never"
            raise RuleOptionError(self.name, "thresholds", list(self.thresholds), fix)
        if self.measure not in ("confidence", "agreement"):
            raise RuleOptionError(self.name, "measure", self.measure, "use confidence or agreement")
        if self.measure == "agreement" and len(self.stages) > 1 and len(self.stages[0]) == 1:
            fix = "put two or more in the first stage, or use confidence"
            raise RuleOptionError(self.name, "stages", "one member, which always agrees with itself", fix)
        if weights is not None and (
            len(weights) != self.num_members or not all(0 <= w < math.inf for w in weights) or not sum(weights) > 0
        ):
            raise RuleOptionError(self.name, "weights", list(weights), "give each member a finite weight >= 0")

    @classmethod
    def _build(cls, members: Sequence[str], weights: list[float] | None, options: Mapping[str, Any]) -> Rule:
        for option in ("stages", "thresholds"):
            if option not in options:
                raise RuleOptionError(cls.name, option, None, "give it: a cascade has no default")
        try:
            return cls(members, weights=weights, **options)
        except (TypeError, ValueError) as error:
            fix = "give stages as lists of members, thresholds as a list of numbers"
            raise RuleOptionError(cls.name, "options", dict(options), fix) from error

    def to_spec(self, members: Sequence[str]) -> dict[str, Any]:
        if sorted(members) != sorted(self.members):
            raise RuleOptionError(self.name, "members", list(members), f"give {', '.join(self.members)}, in any order")
        spec = super().to_spec(members)
        if self.spec_weights is not None:
            weights = dict(zip(self.members, self.spec_weights, strict=True))
            spec["weights"] = {name: weights[name] for name in members}
        return spec

    def decide(self, stage: int, outputs: Tensor, present: Tensor) -> Tensor:
        """Which rows leave at a stage.

        Args:
            stage: its number; members of later stages are not read.
            outputs: (M, B, C) probabilities.
            present: (M, B) bool, False where a member was not asked or gave no row.

        Returns:
            (B,) bool, True for a row that needs no further stage.
        """
        outputs = outputs.float()
        present = present & torch.isfinite(outputs).all(dim=-1)
        outputs = torch.where(present.unsqueeze(-1), outputs, 0.0)
        return self._stage_by_stage(outputs, present, stage)[stage].leaves

    def reached(self, outputs: Tensor) -> list[float]:
        """Of rows that all members answered, the share that gets to each stage.

        Args:
            outputs: (M, N, C) probabilities.
        """
        left, everyone = torch.ones(outputs.shape[1], dtype=torch.bool), torch.ones(outputs.shape[:2], dtype=torch.bool)
        shares = [1.0]
        for stage in self._stage_by_stage(outputs.float(), everyone, len(self.stages) - 1)[:-1]:
            left = left & ~stage.leaves
            shares.append(float(left.float().mean()))
        return shares

    def reweighted(self, weights: Sequence[float], outputs: Tensor) -> Cascade:
        """The same with other weights, by member; as many of these rows leave at each stage as do now.

        Args:
            weights: in the order of the members.
            outputs: (M, N, C) probabilities of all members.

        Raises:
            RuleOptionError: a stage would have no member of weight any more, so that none could leave there.
        """
        left_to = torch.tensor(list(weights), dtype=torch.float64)
        if any(self._weights[rows].sum() > 0 and left_to[rows].sum() <= 0 for rows in self._rows):
            raise RuleOptionError(self.name, "weights", list(weights), "leave each stage a member of weight above 0")
        present, last = torch.ones(outputs.shape[:2], dtype=torch.bool), len(self.thresholds)
        own = torch.stack([stage.score for stage in self._stage_by_stage(outputs, present, last)])
        other = Cascade(self.members, self.stages, self.thresholds, self.measure, weights)
        scores = torch.stack([stage.score for stage in other._stage_by_stage(outputs, present, last)])
        thresholds = _leaving(scores, _shares_leaving(own, self.thresholds))
        return Cascade(self.members, self.stages, thresholds, self.measure, weights)

    def _stage_by_stage(self, outputs: Tensor, present: Tensor, last: int) -> list[_Stage]:
        """What each stage up to ``last`` knows, every member read once."""
        pooled = torch.zeros(outputs.shape[1:], dtype=torch.float64)
        votes, heard, asked = torch.zeros_like(pooled), pooled.new_zeros(len(pooled)), 0.0
        stages = []
        for number in range(last + 1):
            rows = self._rows[number]
            weights = self._weights[rows].unsqueeze(1) * present[rows]  # (members of the stage, B)
            pooled = pooled + (weights.unsqueeze(-1) * outputs[rows]).sum(dim=0)
            heard, asked = heard + weights.sum(dim=0), asked + float(self._weights[rows].sum())
            if self.measure == "agreement":
                votes.scatter_add_(1, outputs[rows].argmax(dim=-1).T, weights.T)
                score = votes.amax(dim=-1) / max(asked, 1e-300)
            else:
                score = pooled.detach().amax(dim=-1) / heard.clamp(min=1e-300)
            # float32 on both sides: rounding must not keep a unanimous row from a threshold of 1.
            score = torch.where(heard > 0, score, -1.0).float()
            final = number == len(self.stages) - 1
            leaves = torch.ones_like(score, dtype=torch.bool) if final else score >= self.thresholds[number]
            stages.append(_Stage(pooled, heard, torch.full_like(heard, asked), score, leaves))
        return stages

    def _fuse(self, outputs: Tensor, present: Tensor) -> Fused:
        stages = self._stage_by_stage(outputs, present, len(self.stages) - 1)
        left_at = torch.stack([stage.leaves for stage in stages]).int().argmax(dim=0)  # the first
        pooled, heard, asked = stages[-1].pooled, stages[-1].heard, stages[-1].asked
        for number, stage in enumerate(stages[:-1]):
            here = left_at == number
            pooled = torch.where(here.unsqueeze(-1), stage.pooled, pooled)
            heard, asked = torch.where(here, stage.heard, heard), torch.where(here, stage.asked, asked)
        if bool((heard <= 0).any()):
            raise QuorumError("one member with weight above 0 in every row", "a row without any")
        used = present & (self._stage.unsqueeze(1) <= left_at)
        shares = self._weights.unsqueeze(1) * used / heard
        return Fused((pooled / heard.unsqueeze(-1)).float(), shares.float(), (heard / asked).float())


def fit_cascade(
    members: Sequence[str],
    stages: Sequence[Sequence[str]],
    outputs: Tensor,
    labels: Tensor,
    present: Tensor | None = None,
    *,
    max_loss: float = 0.0,
    measure: str = "confidence",
    weights: Sequence[float] | None = None,
    confidence: float | None = None,
    beside: Tensor | None = None,
    seed: int = 0,
) -> Cascade:
    """Choose for each stage the lowest threshold at which the rows that leave lose no accuracy.

    Stage by stage: among the rows that reach it, the most rows that can leave such that their accuracy is at most
    ``max_loss`` below that of all members on the same rows. On the given rows the cascade is then at most ``max_loss``
    less accurate than all members; give rows the members were not trained on.

    With a ``confidence`` that holds on new rows: each stage lets the same share of the rows that reach it leave, and
    that share is the largest that passes a test, all smaller ones having passed it (``risk_control``).

    Args:
        members: names, in the order of the outputs.
        stages: names of the members to ask at each stage.
        outputs: (M, N, C) probabilities.
        labels: (N,) integers in [0, C).
        present: (M, N) bool; None when every member answered.
        max_loss: share of rows, in [0, 1].
        measure: ``confidence`` or ``agreement``.
        weights: by member, in their order; equal when left out.
        confidence: over the draw of these rows, such as 0.95; None where the loss is to hold on these rows.
        beside: (N,) bool, whether what would answer instead is right, for a confidence; the mean of all members when
            None.
        seed: of the order in which rows are bet on.

    Raises:
        FusionError: arguments do not fit together.
        QuorumError: no row has a member.
    """
    _check_fit(max_loss, confidence, beside)
    order = sorted(members)
    place = {name: index for index, name in enumerate(members)}
    by_name = None if weights is None else [weights[place[name]] for name in order]
    data = examples(members, outputs, labels, present)
    never = [NEVER] * (len(stages) - 1)
    known = Cascade(order, stages, never, measure, by_name)._stage_by_stage(data.outputs, data.present, len(never))
    if bool((known[-1].heard <= 0).any()):
        raise QuorumError("one member with weight above 0 in every row", "a row without any")
    scores = torch.stack([stage.score for stage in known])
    right = torch.stack([(stage.pooled.argmax(dim=-1) == data.labels).double() for stage in known])
    if confidence is None:
        thresholds = _greedy(scores, right, max_loss)
    else:
        other = right[-1] if beside is None else beside[data.kept].double()
        thresholds = _proven(scores, right, other, max_loss, 1 - confidence, seed)
    return Cascade(members, stages, thresholds, measure, weights)


def _check_fit(max_loss: float, confidence: float | None, beside: Tensor | None) -> None:
    if not 0 <= max_loss <= 1:
        raise RuleOptionError(Cascade.name, "max_loss", max_loss, "give a share of rows in [0, 1]")
    check_confidence(Cascade.name, confidence)
    if beside is not None and confidence is None:
        raise RuleOptionError(Cascade.name, "beside", "given without a confidence", "give both, or none")


def _greedy(scores: Tensor, right: Tensor, max_loss: float) -> list[float]:
    """The lowest threshold of each stage but the last, one after the other.

    Args:
        scores, right: (stages, N) how sure each stage is, -1 where it heard nobody, and whether it is right.
    """
    thresholds = []
    left = torch.ones(scores.shape[1], dtype=torch.bool)
    for score, one in zip(scores[:-1], right[:-1], strict=True):
        able = left & (score >= 0)
        thresholds.append(_lowest(score[able], (one - right[-1])[able], max_loss))
        left = left & (score < thresholds[-1])
    return thresholds


def _proven(scores: Tensor, right: Tensor, other: Tensor, max_loss: float, delta: float, seed: int) -> list[float]:
    """The riskiest thresholds that are shown to lose no more than that, of some that no label has had a part in."""
    order = torch.randperm(scores.shape[1], generator=torch.Generator().manual_seed(seed))
    scores, right, other = scores[:, order], right[:, order], other[order]
    proposed = [_leaving(scores, [share] * (len(scores) - 1)) for share in _SHARES]

    def p_value(number: int) -> float:
        answered, left = right[-1], torch.ones_like(right[-1], dtype=torch.bool)
        for score, one, threshold in zip(scores[:-1], right[:-1], proposed[number], strict=True):
            leaves = left & (score >= threshold)
            answered, left = torch.where(leaves, one, answered), left & ~leaves
        return mean_p_value((other - answered).numpy(), max_loss, delta)

    good = passed(p_value, [0], len(proposed), delta)
    return proposed[good[-1]] if good else [NEVER] * (len(scores) - 1)


def _shares_leaving(scores: Tensor, thresholds: Sequence[float]) -> list[float]:
    """Of the rows that reach a stage, how many leave there."""
    shares = []
    left = torch.ones_like(scores[0], dtype=torch.bool)
    for score, threshold in zip(scores, thresholds, strict=False):  # all leave the last one
        able = left & (score >= 0)
        left = left & (score < threshold)
        shares.append(1 - float((left & able).sum() / able.sum().clamp(min=1)))
    return shares


def _leaving(scores: Tensor, shares: Sequence[float]) -> list[float]:
    """Thresholds at which these shares of the rows that reach a stage leave there; of a share of 0 none ever does."""
    thresholds: list[float] = []
    left = torch.ones_like(scores[0], dtype=torch.bool)
    for score, share in zip(scores, shares, strict=False):
        able = score[left & (score >= 0)]
        thresholds.append(float(able.quantile(1 - share)) if len(able) and share > 0 else NEVER)
        left = left & (score < thresholds[-1])
    return thresholds


def _lowest(score: Tensor, gain: Tensor, max_loss: float) -> float:
    """The lowest score at which the mean gain of all rows of that score or more is at least -max_loss."""
    score, order = score.sort(descending=True)
    mean = gain[order].cumsum(dim=0) / torch.arange(1, len(score) + 1)
    # Rows of one score leave together.
    ends = torch.cat([score[1:] < score[:-1], torch.ones(min(1, len(score)), dtype=torch.bool)])
    good = (ends & (mean >= -max_loss - 1e-12)).nonzero()
    return float(score[good[-1]]) if len(good) else NEVER
