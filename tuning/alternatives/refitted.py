"""Alternatives fitted again on all rows, once they were judged: what is served learns from the judging rows, too.

As ``GridSearchCV(refit=True)`` does with what it has chosen. The figures stay those of what was judged, on rows that it
was not fitted on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from quorate.fusion.errors import QuorateError
from quorate.tuning.alternatives.base import Outputs, joined, recipe_of
from quorate.tuning.alternatives.out_of_sample import OutOfSample
from quorate.tuning.alternatives.patterns import with_patterns_again
from quorate.tuning.alternatives.recipe import Recipe


def refitted(
    found: Sequence[OutOfSample], judged: Mapping[str, Recipe], solve: Outputs, judge: Outputs, *,
    seed: int = 0, priced: bool = False, quorum: int = 1, required: Collection[str] = (),
) -> dict[str, Recipe]:  # fmt: skip
    """By name those that rows teach anything; without those that cannot be fitted on all, or come out as another kind.

    Args:
        found, judged: as they were fitted on solving rows; and what would be served of that.
        solve, judge: all rows.
        seed: of the fits.
        priced: members cost something, so that others than were judged are never asked.
        quorum, required: as of ``choose``.
    """
    rows, again = joined(solve, judge), {}
    for one in found:
        recipe = _again(one, rows, seed, priced)
        if recipe is not None:
            if not solve.of_values:
                was = judged[one.alternative.name]
                recipe = with_patterns_again(recipe, rows, was, one, solve, quorum, required)
            again[one.alternative.name] = recipe
    return again


def _again(one: OutOfSample, rows: Outputs, seed: int, priced: bool) -> Recipe | None:
    was = recipe_of(one.fitted)
    if was is None or not one.alternative.fitted:
        return None
    try:
        recipe = recipe_of(one.alternative.fit(rows, seed))
    except QuorateError:  # it was fitted on half of them: that one stays
        return None
    if recipe is None or (len(recipe.asked) == 1) != (len(was.asked) == 1):
        return None  # one member alone is no ensemble, and was not judged as one
    return None if priced and set(recipe.asked) != set(was.asked) else recipe
