"""Rules that fuse rankings: the rows of a request are the entries of one list, and each member scores them.

Scores of different members need no common scale: each member's are turned into points among the entries that it has
scored, and an entry gets the (weighted) mean of the points of the members that scored it. The more points, the higher
it ranks. Rows of different lists must not be fused together.
"""

# M members, B entries of the list, C lists side by side (1 where a request is a list)

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from quorate.fusion.rules.ranking import ByReciprocalRank, ranks
from quorate.fusion.rules.weighting import WeightedRule, pool


class _ListRule(WeightedRule):
    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        return pool(self._points(outputs, present), shares)

    @abstractmethod
    def _points(self, outputs: Tensor, present: Tensor | None) -> Tensor:
        """(M, B, C) points of each entry among those present; whatever is finite for the others."""


class ListReciprocalRank(ByReciprocalRank, _ListRule):
    """Each entry gets 1 / (k + its rank) from each member (Cormack, Clarke and Buettcher 2009, "Reciprocal Rank Fusion
    outperforms Condorcet and individual Rank Learning Methods"); equal scores share the mean of their ranks.
    """

    name = "list_reciprocal_rank"

    def _points(self, outputs: Tensor, present: Tensor | None) -> Tensor:
        return self.points_of(_ranks_in_list(outputs, present))


class ListBorda(_ListRule):
    """Each entry gets the share of the other entries that a member ranks below it (Borda 1784)."""

    name = "list_borda"

    def _points(self, outputs: Tensor, present: Tensor | None) -> Tensor:
        count = _count(outputs, present)
        return (count - _ranks_in_list(outputs, present).double()) / (count - 1).clamp(min=1)


class ListStandardScores(_ListRule):
    """Each entry gets how many standard deviations a member's score of it is above that member's mean over the list.

    Montague and Aslam 2001, "Relevance Score Normalization for Metasearch" (zero mean, unit variance); the sum of such
    scores is CombSUM (Fox and Shaw 1994, "Combination of Multiple Searches"). A member that scores all entries alike
    says nothing.
    """

    name = "list_standard_scores"

    def _points(self, outputs: Tensor, present: Tensor | None) -> Tensor:
        scores, count = outputs.double(), _count(outputs, present)
        there = torch.ones_like(scores) if present is None else present.unsqueeze(-1).double()
        off = (scores - (scores * there).sum(dim=1, keepdim=True) / count) * there
        spread = ((off**2).sum(dim=1, keepdim=True) / count).sqrt()
        # Rounding alone is no spread.
        flat = spread <= 1e-12 * scores.abs().amax(dim=1, keepdim=True)
        return torch.where(flat, 0.0, off / torch.where(flat, 1.0, spread))


def _ranks_in_list(outputs: Tensor, present: Tensor | None) -> Tensor:
    """(M, B, C) from 1 for the highest score of a list; the absent come last."""
    scores = outputs if present is None else torch.where(present.unsqueeze(-1), outputs, -torch.inf)
    return ranks(scores.transpose(1, 2).contiguous()).transpose(1, 2)


def _count(outputs: Tensor, present: Tensor | None) -> Tensor:
    """(M, 1, 1) entries that each member scored, at least 1."""
    if present is None:
        return torch.full((len(outputs), 1, 1), float(outputs.shape[1]), dtype=torch.float64, device=outputs.device)
    return present.sum(dim=1).clamp(min=1).double()[:, None, None]
