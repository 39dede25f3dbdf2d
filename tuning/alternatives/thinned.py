"""In which order members are left out under too much load, and what the answers of those that are left are worth."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Metrics by name, of the answers that these members give together.
Measure = Callable[[Collection[str] | None], Mapping[str, float]]


@dataclass(frozen=True)
class Thinned:
    """Found on rows that nothing was fitted on.

    Attributes:
        expected: metrics while all are asked.
        steps: who goes, each behind those before it, and metrics of the rest.
    """

    expected: Mapping[str, float]
    steps: Sequence[tuple[str, Mapping[str, float]]]

    def fields(self) -> dict[str, Any]:
        """A spec's ``thinning``."""
        steps = [{"without": name, "expected": dict(metrics)} for name, metrics in self.steps]
        return {"expected": dict(self.expected), "steps": steps}


def fit_thinned(
    measure: Measure,
    loss: Callable[[Mapping[str, float]], float],
    asked: Sequence[str],
    ms: Mapping[str, float],
    quorum: int = 1,
    required: Collection[str] = (),
) -> Thinned:
    """Who is worth least for its time goes first, then who is worth least of those that are left, down to the quorum.

    Args:
        measure: metrics of the answers of some members; None for all.
        loss: what of them is to stay small.
        asked: the members.
        ms: that each of them computes, for a row.
        quorum, required: the fewest that are left, and who never goes.
    """
    whole = now = measure(None)
    left, steps = list(asked), list[tuple[str, Mapping[str, float]]]()
    while len(left) > max(quorum, 1):
        without = {name: measure([one for one in left if one != name]) for name in left if name not in required}
        if not without:
            break
        worth = {name: (loss(found) - loss(now)) / ms[name] for name, found in without.items()}
        first = min(worth, key=lambda name: (worth[name], name))
        left.remove(first)
        now = without[first]
        steps.append((first, now))
    return Thinned(whole, steps)
