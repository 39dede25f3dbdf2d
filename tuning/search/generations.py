"""Generations of trials: what is proposed together, and what must have ended before it is."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

WORKER_DIED = "its worker died again and again"


@dataclass(frozen=True)
class Task:
    """One trial to run: its number in its phase, and the config that its worker makes it from."""

    number: int
    config: Mapping[str, Any]


class Generations(Protocol):
    """Where tasks come from and outcomes go."""

    def next(self) -> Sequence[Task] | None:
        """Tasks of the next generation that have not run yet; empty at the end, None while it is too early to tell.

        A generation is proposed while the one before it runs, from all that came before that: no worker waits for the
        slowest trial.
        """

    def done(self, number: int, outcome: Mapping[str, Any] | None) -> None:
        """Take in what a trial found; None when its worker died again and again."""


def generation(number: int, parallel: int, trials: int) -> tuple[range, range]:
    """The trials of a generation, and those that must have ended before it is proposed."""
    start = number * parallel
    return range(start, min(start + parallel, trials)), range(start - parallel)


def unfinished(number: int, parallel: int, trials: int, finished: Container[int]) -> tuple[int, range, range] | None:
    """The first generation from ``number`` on with trials to run, the empty one at the end; None while it is early."""
    while True:
        numbers, before = generation(number, parallel, trials)
        if numbers and any(one not in finished for one in before):
            return None
        if not numbers or any(one not in finished for one in numbers):
            return number, numbers, before
        number += 1
