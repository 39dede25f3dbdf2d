"""Majority, weighted and soft vote with a policy for ties (Kuncheva 2004, "Combining Pattern Classifiers", 4)."""

# M members, B batch, C classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from quorate.fusion.base import Rule
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.numerics.tracing import surely, tracing
from quorate.fusion.rules.weighting import WeightedRule, pool

LOWEST_INDEX, MEAN_PROBABILITY, HEAVIEST_VOTER, ABSTAIN = (
    "lowest_index",
    "mean_probability",
    "heaviest_voter",
    "abstain",
)

# Votes are counted in whole numbers, so that no order of members can change a count.
_WHOLE = 2.0**40
# 0.1 + 0.2 against 0.3 is a tie, although their float64 sums differ.
_TIE = 2.0**-36


class _Vote(WeightedRule):
    """Counts shares per class and settles who wins where the lead is shared."""

    policies: tuple[str, ...]

    def __init__(self, num_members: int, weights: Sequence[float] | None, tie: str):
        super().__init__(num_members, weights)
        if tie not in self.policies:
            raise RuleOptionError(self.name, "tie", tie, f"use {' or '.join(self.policies)}")
        self.tie = tie
        self.options = {"tie": tie}

    def _decide(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor | None]:
        values = self._values(outputs, shares, present)
        # argmax takes the first of equals, here and in every client: the shares already say lowest_index.
        if self.tie == LOWEST_INDEX:
            return values, None
        leaders = values >= values.amax(dim=-1, keepdim=True) - _TIE
        tied = leaders.sum(dim=-1) > 1
        if self.tie == ABSTAIN:
            return values.masked_fill(tied.unsqueeze(-1), 0.0), tied
        if surely(~tied):
            return values, None
        preference = self._preference(outputs, shares)
        winner = torch.where(leaders, preference, -1.0).argmax(dim=-1, keepdim=True)
        # A run-off: what the other leaders had passes to the winner.
        pot = torch.where(leaders, values, 0.0).sum(dim=-1, keepdim=True)
        settled = values.masked_fill(leaders, 0.0).scatter(-1, winner, pot)
        return torch.where(tied.unsqueeze(-1), settled, values), None

    def _preference(self, outputs: Tensor, shares: Tensor) -> Tensor:
        """(B, C) which of several leaders wins."""
        if self.tie == MEAN_PROBABILITY:
            return pool(outputs, shares)
        weights = (shares.unsqueeze(1) if shares.dim() == 1 else shares).expand(outputs.shape[:2])
        choices = first_choices(outputs)
        heaviest = torch.zeros(outputs.shape[1:], dtype=torch.float64, device=outputs.device)
        return heaviest.scatter_reduce_(1, choices.T, weights.T, "amax").float()


class MajorityVote(_Vote):
    """Each member votes for its most probable class; values are the shares of the votes.

    With a shared lead the tie policy says who wins, and the votes of the other leaders pass to the winner:
    ``lowest_index`` (the shares stay as they are), ``mean_probability``, or ``abstain``.
    """

    name = "majority_vote"
    policies = (LOWEST_INDEX, MEAN_PROBABILITY, ABSTAIN)

    def __init__(self, num_members: int, tie: str = LOWEST_INDEX):
        super().__init__(num_members, None, tie)

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        return count_votes(first_choices(outputs), shares, outputs.shape[-1])


class WeightedVote(_Vote):
    """A majority vote in which a member's vote counts its weight; ties may also go to the ``heaviest_voter``."""

    name = "weighted_vote"
    policies = (LOWEST_INDEX, MEAN_PROBABILITY, HEAVIEST_VOTER, ABSTAIN)

    def __init__(self, weights: Sequence[float], tie: str = LOWEST_INDEX):
        super().__init__(len(weights), weights, tie)

    @classmethod
    def _build(cls, members: Sequence[str], weights: list[float] | None, options: Mapping[str, Any]) -> Rule:
        if weights is None:
            raise RuleOptionError(cls.name, "weights", None, "give each member one, or use rule: majority_vote")
        return cls(weights, **options)

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        return count_votes(first_choices(outputs), shares, outputs.shape[-1])


class SoftVote(_Vote):
    """The (weighted) mean probability, with a policy for classes that share the lead."""

    name = "soft_vote"
    policies = (LOWEST_INDEX, HEAVIEST_VOTER, ABSTAIN)

    def __init__(self, num_members: int, weights: Sequence[float] | None = None, tie: str = LOWEST_INDEX):
        super().__init__(num_members, weights, tie)

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        return pool(outputs, shares)


def first_choices(outputs: Tensor) -> Tensor:
    """(M, B) the class each member finds most probable, the first of equals."""
    outputs = outputs.detach()
    # On a CPU numpy's argmax is vectorised and torch's is not: a tenth of the time.
    if tracing() or outputs.is_cuda:
        return outputs.argmax(dim=-1)
    return torch.from_numpy(outputs.numpy().argmax(axis=-1))


def count_votes(choices: Tensor, shares: Tensor, num_classes: int) -> Tensor:
    """(B, C) float32 share of the votes; choices (M, B), shares (M,) or (M, B) summing to one over M."""
    ballots = (shares.unsqueeze(1) if shares.dim() == 1 else shares).expand(choices.shape) * _WHOLE
    ballots = ballots.round().long()
    counts = torch.zeros(choices.shape[1], num_classes, dtype=torch.int64, device=choices.device)
    counts.scatter_add_(1, choices.T, ballots.T)
    return (counts.double() / ballots.sum(dim=0).unsqueeze(-1)).float()
