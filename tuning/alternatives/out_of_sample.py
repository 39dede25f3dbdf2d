"""What each alternative says of rows it was not fitted on: solving rows out of fold, and all judging rows."""

# M members, N solving rows, J judging rows, C classes, F numbers a row

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.errors import QuorateError
from quorate.tuning.alternatives.base import Alternative, Fitted, Kind, Outputs, answers_of, recipe_of
from quorate.tuning.data.folds import folds_of

FOLDS = 5
# Labelled rows and what is answered to them, (N, C), to the (N, F) numbers that a metric is made of.
Numbers = Callable[[Outputs, NDArray[Any]], NDArray[np.float64]]


@dataclass(frozen=True)
class Part:
    """An alternative without one fold.

    Attributes:
        fitted: on the rows ``rest``; judged on the rows ``fold``.
    """

    fitted: Fitted
    rest: NDArray[np.intp]
    fold: NDArray[np.intp]


@dataclass(frozen=True)
class OutOfSample:
    """What one alternative's answers are worth, in a metric's numbers of each row.

    Attributes:
        fitted: on all solving rows.
        solving: (N, F) of the solving rows, each answered by what was fitted on the other folds; NaN in rows that are
            in none.
        judging: (J, F).
        parts: what it was without each fold.
        reached: of a cascade, the share of rows that gets to each stage.
    """

    alternative: Alternative
    fitted: Fitted
    solving: NDArray[np.float64]
    judging: NDArray[np.float64]
    parts: list[Part] = field(default_factory=list)
    reached: tuple[float, ...] = ()

    @property
    def kind(self) -> Kind:
        """The alternative's, but that what asks one member alone is no ensemble."""
        recipe = recipe_of(self.fitted)
        return "single" if recipe is not None and len(recipe.asked) == 1 else self.alternative.kind


def out_of_sample(
    alternatives: Sequence[Alternative],
    solve: Outputs,
    judge: Outputs,
    numbers: Numbers,
    seed: int = 0,
    on_step: Callable[[str], None] | None = None,
) -> tuple[list[OutOfSample], dict[str, str]]:
    """Fit and apply every alternative; also what kept those that could not be fitted, by name.

    Raises:
        DataError: too few rows to make folds of.
    """
    say = on_step or (lambda step: None)
    folds = folds_of(solve.labels, solve.groups, solve.times, FOLDS, seed)
    found: dict[str, OutOfSample] = {}
    left_out: dict[str, str] = {}
    for one in alternatives:
        say(f"fitting {one.name}" if one.fitted else f"judging {one.name}")
        with _left_out(one, found, left_out):
            fitted = one.fit(solve, seed)
            judging = numbers(judge, answers_of(fitted, judge))
            found[one.name] = OutOfSample(one, fitted, np.full((len(solve), judging.shape[1]), np.nan), judging)
    for place, (rest, fold) in enumerate(folds):
        say(f"cross-validating: fold {place + 1} of {len(folds)}")
        seen, held_out = solve.rows(rest), solve.rows(fold)  # once for all: they are copies
        for done in list(found.values()):
            with _left_out(done.alternative, found, left_out):
                part = done.alternative.fit(seen, seed) if done.alternative.fitted else done.fitted
                done.solving[fold] = numbers(held_out, answers_of(part, held_out))
                done.parts.append(Part(part, rest, fold))
    return list(found.values()), left_out


@contextmanager
def _left_out(one: Alternative, found: dict[str, OutOfSample], left_out: dict[str, str]) -> Iterator[None]:
    """An ensemble that cannot be fitted is left out, with the reason; the rest is what it would be compared with."""
    try:
        yield
    except QuorateError as error:
        if one.kind != "ensemble":
            raise
        found.pop(one.name, None)
        left_out[one.name] = str(error)
