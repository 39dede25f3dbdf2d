"""What an alternative should answer when members are missing: by its rule, or by a linear pool solved for who is there.

A serving fusion goes on with the numbers it has. They were found beside the missing member, so that is not always the
best that is left; rows out of fold say which is.
"""

# M members, N rows, C classes, K sets of members

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.fusion.registry import PATTERNS, RULES
from quorate.tuning.alternatives.base import Outputs, recipe_of
from quorate.tuning.alternatives.out_of_sample import OutOfSample
from quorate.tuning.alternatives.pools import by_name
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.scoring import Floats, true_class
from quorate.tuning.solvers.columns import Columns
from quorate.tuning.solvers.simplex import solve_rows

# Those that most are in; of seven members with three missing or fewer, of twenty with one.
MAX_PATTERNS = 64
# Of a fold, to fit on and to judge on: which of two answers is better shows on fewer rows than all.
_ROWS = 1500


def with_patterns(found: OutOfSample, solve: Outputs, quorum: int = 1, required: Collection[str] = ()) -> Recipe | None:
    """The alternative's recipe with weights for who is there, where they are worth having; None where it has none.

    Compared is log-loss on rows of the other folds. A rule that was given weights keeps them unless a pattern gains
    more than twice its standard error; a learned rule, whose answer without a member nothing bounds, has to be the
    better one itself.

    Args:
        found: of probabilities; with what it was on each fold.
        solve: the rows it was fitted on.
        quorum: the fewest members that are ever fused.
        required: members without which nothing is.
    """
    recipe = recipe_of(found.fitted)
    if recipe is None or not found.alternative.fitted or not _can_have(recipe):
        return recipe
    return _with_weights(recipe, _worth_having(found, recipe, solve, quorum, required), solve)


def with_patterns_again(
    recipe: Recipe, rows: Outputs, judged: Recipe, found: OutOfSample, solve: Outputs, quorum: int = 1,
    required: Collection[str] = (),
) -> Recipe:  # fmt: skip
    """The recipe, fitted on more rows, with weights for the sets that have them in the one that was judged.

    Args:
        recipe: fitted on ``rows``.
        judged: what ``with_patterns`` gave of the rest.
    """
    if not _can_have(recipe):
        return recipe
    if recipe.asked == judged.asked:
        sets = [tuple(pattern) for pattern in judged.options.get(PATTERNS, ())]
    else:
        sets = _worth_having(found, recipe, solve, quorum, required)
    return _with_weights(recipe, sets, rows)


def _worth_having(
    found: OutOfSample, recipe: Recipe, solve: Outputs, quorum: int, required: Collection[str]
) -> list[tuple[str, ...]]:
    """The sets of members that the recipe asks for which weights of their own gain enough out of fold."""
    sets = sets_left(recipe.asked, quorum, required)
    gains, errors = _gains(found, solve, sets)
    least = np.zeros(len(sets)) if RULES[recipe.rule].learned else 2 * errors
    return [some for some, gain, bound in zip(sets, gains, least, strict=True) if gain > bound]


def _with_weights(recipe: Recipe, sets: Sequence[tuple[str, ...]], rows: Outputs) -> Recipe:
    """The recipe with a linear pool for each of these sets, solved on the rows."""
    columns, places = _columns(recipe, rows), {name: row for row, name in enumerate(recipe.members)}
    patterns = [dict(by_name(some, _solved(columns[[places[name] for name in some]], rows))) for some in sets]
    return replace(recipe, options={**recipe.options, PATTERNS: patterns}) if patterns else recipe


def sets_left(asked: Sequence[str], quorum: int, required: Collection[str]) -> list[tuple[str, ...]]:
    """Sets of members that may be all that answers, of those that are asked: only they are ever there in serving.

    Args:
        quorum: the fewest members that are ever fused.
        required: members without which nothing is.
    """
    found: list[tuple[str, ...]] = []
    for size in range(len(asked) - 1, max(1, quorum) - 1, -1):
        more = [some for some in combinations(asked, size) if set(required) & set(asked) <= set(some)]
        if len(found) + len(more) > MAX_PATTERNS:
            break
        found += more
    return found


def _can_have(recipe: Recipe) -> bool:
    """Class biases make decisions, whose log-loss says nothing."""
    decides = recipe.calibration is not None and bool(recipe.calibration.bias)
    return PATTERNS in RULES[recipe.rule].options and not decides and len(recipe.asked) > 1


def _gains(found: OutOfSample, solve: Outputs, sets: Sequence[tuple[str, ...]]) -> tuple[Floats, Floats]:
    """(K,) how much lower log-loss is under a set's own pool than under the rule, and the standard errors."""
    parts = [_fold_gains(found, number, solve, sets) for number in range(len(found.parts))]
    gains = np.concatenate([gain for gain, _ in parts], axis=1)
    counts = np.concatenate([count for _, count in parts])
    means = np.average(gains, axis=1, weights=counts)
    squared = np.average((gains - means[:, None]) ** 2, axis=1, weights=counts)
    return means, np.sqrt(squared / gains.shape[1])


def _fold_gains(
    found: OutOfSample, number: int, solve: Outputs, sets: Sequence[tuple[str, ...]]
) -> tuple[Floats, Floats]:
    """(K, n) of the rows of one fold, and how much each counts."""
    part = found.parts[number]
    recipe = recipe_of(part.fitted)
    assert recipe is not None  # what has one on all rows has one on some of them
    seen = solve.rows(part.rest).sample(_ROWS, number)
    held_out = solve.rows(part.fold).sample(_ROWS, number)
    columns, read = _columns(recipe, seen), recipe.calibrated(held_out.names, held_out.probs)
    gains = np.zeros((len(sets), len(held_out)))
    for gain, some in zip(gains, sets, strict=True):
        rows = [recipe.members.index(name) for name in some]
        own = _pooled(recipe, read[rows], _solved(columns[rows], seen))
        asked = [name for name in some if name in recipe.asked]
        if asked:
            kept = recipe.fuse(held_out.names, held_out.probs, asked)
        else:  # this fold's weights leave none of them anything, so they would have counted the same
            kept = _pooled(recipe, read[rows], np.full(len(some), 1 / len(some)))
        gain[:] = np.log(_given(own, held_out.labels)) - np.log(_given(kept, held_out.labels))
    return gains, np.ones(len(held_out)) if held_out.weights is None else held_out.weights


def _columns(recipe: Recipe, outputs: Outputs) -> Floats:
    """(M, N) true-class probabilities of what the rule reads."""
    return true_class(recipe.calibrated(outputs.names, outputs.probs), outputs.labels)


def _solved(columns: Floats, outputs: Outputs) -> Floats:
    """Weights of least log-loss for the linear pool of these columns."""
    solved: Floats = solve_rows(Columns(columns, counts=outputs.weights))
    return solved


def _pooled(recipe: Recipe, probs: NDArray[np.float32], weights: Floats) -> NDArray[np.float32]:
    """(N, C) the linear pool, calibrated after it as the recipe is."""
    pooled = np.tensordot(weights, probs, axes=1).astype(np.float32)
    return pooled if recipe.calibration is None else recipe.calibration.apply(torch.from_numpy(pooled)).numpy()


def _given(fused: NDArray[np.float32], labels: NDArray[np.int64]) -> Floats:
    """(N,) the probability of the true class."""
    given: Floats = true_class(fused[None], labels)[0]
    return given
