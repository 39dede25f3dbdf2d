"""Model soups: the average of the parameters of members fine-tuned from one start (Wortsman et al. 2022, ICML)."""

# M members

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from quorate.fusion.errors import RuleOptionError
from quorate.fusion.merging.checkpoints import State, check_members, combine


def uniform_soup(members: Mapping[str, State]) -> dict[str, Tensor]:
    """Average every parameter.

    The order of members changes no bit: they are added in the order of their names, in float64.

    Args:
        members: state dict of each member by name.

    Returns:
        One state dict. Where the model has BatchNorm, follow with ``reestimate_batchnorm``.

    Raises:
        FusionError: the members cannot be mixed, see ``check_members``.
    """
    check_members(members)
    return _average(members)


def _average(members: Mapping[str, State]) -> dict[str, Tensor]:
    return combine(members, lambda key, stacked: stacked.mean(dim=0))


@dataclass(frozen=True)
class GreedySoup:
    """What the greedy recipe kept.

    Attributes:
        state: the soup.
        ingredients: the members in it, in the order they were added.
        score: the soup's score.
        member_scores: each member's own score.
    """

    state: dict[str, Tensor]
    ingredients: tuple[str, ...]
    score: float
    member_scores: dict[str, float]


def greedy_soup(members: Mapping[str, State], score: Callable[[State], float]) -> GreedySoup:
    """Add members from the best down, each kept only if the soup scores no worse (Wortsman et al. 2022, recipe 1).

    The soup never scores below the best member. Equal scores are tried in the order of names.

    Args:
        members: state dict of each member by name.
        score: a state dict's score on held-out rows, higher is better; called 2 M - 1 times. Where the model has
            BatchNorm it should re-estimate the statistics first.

    Raises:
        FusionError: the members cannot be mixed, see ``check_members``, or a score is NaN.
    """
    check_members(members)
    scores = {name: _scored(name, members[name], score) for name in sorted(members)}
    ranked = sorted(scores, key=lambda name: -scores[name])
    kept, best = ranked[:1], scores[ranked[0]]
    soup = _average({ranked[0]: members[ranked[0]]})
    for name in ranked[1:]:
        candidate = _average({n: members[n] for n in (*kept, name)})
        value = _scored(f"the soup with {name}", candidate, score)
        if value >= best:
            kept, best, soup = [*kept, name], value, candidate
    return GreedySoup(soup, tuple(kept), best, scores)


def _scored(name: str, state: State, score: Callable[[State], float]) -> float:
    value = float(score(state))
    if math.isnan(value):
        raise RuleOptionError("greedy_soup", f"score of {name}", value, "give a number, higher is better")
    return value
