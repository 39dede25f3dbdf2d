"""Alternatives for members that score the entries of lists: no order, fused scores, fused ranks, tuned for NDCG."""

# M members, N lists of up to L entries each

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quorate.tuning.alternatives.base import Alternative, Kind, Outputs, answers_of
from quorate.tuning.alternatives.by_task.values import Always
from quorate.tuning.alternatives.pools import Rows, by_name, shrunk
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.alternatives.unfitted import UNIFORM, Incumbent, Member
from quorate.tuning.scoring import Floats
from quorate.tuning.solvers.ranking import ndcg_of_weights, ranking_weights

SCORES, RANKS = "list_standard_scores", "list_reciprocal_rank"
# Entries that the search for weights looks at: it asks for the metric some hundred times a pass.
_ENTRIES = 20_000


def ranking_alternatives(
    names: Sequence[str], top: int | None = None, incumbent: Incumbent | None = None
) -> list[Alternative]:
    """Everything that can be made of members that score entries.

    Args:
        names: of the members.
        top: the places that count.
        incumbent: what the spec has now.
    """
    found: list[Alternative] = [Unordered(), *(Member(name) for name in names)]
    if len(names) > 1:
        found += [Equal(UNIFORM, SCORES), Equal("reciprocal_rank", RANKS)]
    if incumbent is not None:
        found.append(incumbent)
    if len(names) > 1:
        found += [Ascended("tuned_ranks", RANKS, top), Ascended("tuned", SCORES, top)]
    return found


@dataclass(frozen=True)
class Unordered:
    """All entries alike: what a random order is worth on average."""

    name: ClassVar[str] = "no_order"
    kind: ClassVar[Kind] = "floor"
    fitted: ClassVar[bool] = False

    def fit(self, outputs: Outputs, seed: int) -> Always:
        return Always(np.zeros(1))


@dataclass(frozen=True)
class Equal:
    """A rule over lists in which all members count the same."""

    name: str
    rule: str
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = False

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        return Recipe(self.rule, outputs.names)


@dataclass(frozen=True)
class Ascended:
    """The same with weights searched for NDCG, drawn towards equal ones as far as that helps lists left out."""

    name: str
    rule: str
    top: int | None
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        some = outputs.sample(max(1, _ENTRIES // outputs.probs.shape[2]), seed)
        points = np.stack([answers_of(Recipe(self.rule, (name,)), some) for name in some.names]).astype(np.float64)

        def counts(rows: Rows) -> Floats | None:
            return None if some.weights is None else some.weights[rows]

        def solved(rows: Rows) -> Floats:
            return ranking_weights(points[:, rows], some.labels[rows], self.top, counts(rows))

        def losses(tried: Floats, rows: Rows) -> Floats:
            labels = some.labels[rows]
            return -len(labels) * ndcg_of_weights(tried, points[:, rows], labels, self.top, counts(rows))

        return Recipe(self.rule, some.names, by_name(some.names, shrunk(some, seed, solved, losses)))
