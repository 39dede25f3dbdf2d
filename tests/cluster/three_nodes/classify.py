"""What became of a request, judged by the oracle: right, wrong, another request's, mislabelled, or no answer at all."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.cluster.three_nodes.oracle import Weights, fused, part

FULL, DEGRADED, WRONG, SWAPPED, MISLABELLED = "full", "degraded-right", "wrong", "swapped", "mislabelled"
# A typed error says why; a refused connection that nobody is there; of what is lost nothing is heard in time.
ERROR, REFUSED, LOST = "typed error", "refused connection", "lost"
UNSAFE = (WRONG, SWAPPED, MISLABELLED, LOST)
ANSWERED = (FULL, DEGRADED)
_TOLERANCE = 1e-6  # of float32; two requests differ by more than 1e-4 in one value or another


def classify(line: Mapping[str, Any], revisions: Mapping[str, Weights], numbers: Iterable[int]) -> str:
    """The class of a request.

    Args:
        line: what ``load`` wrote of it.
        revisions: the weights of each.
        numbers: of all requests, for answers that are another's.
    """
    if line["outcome"] != "answer":
        return str(line["outcome"])
    number, values = np.array([line["number"]]), np.array(line["values"])
    used, weights = line["used"], revisions.get(line["revision"])
    if weights is not None and set(used) <= set(weights) and _close(fused(number, used, weights)[0], values):
        return _labelled(line, weights)
    for known in revisions.values():
        for subset in _subsets(known):
            if _close(fused(number, subset, known)[0], values):
                return MISLABELLED
    others = np.array(sorted(set(numbers) - {line["number"]}), dtype=np.int64)
    if any(_is_of_another(number, others, values, known) for known in revisions.values()):
        return SWAPPED
    return WRONG


def _labelled(line: Mapping[str, Any], weights: Weights) -> str:
    """Of an answer with the right values: whether it says truly which members it lacks."""
    missing = set(weights) - set(line["used"])
    share = sum(weights[name] for name in line["used"]) / sum(weights.values())
    told = {name.partition(":")[0] for name in line["missing"]}
    if told != missing or line["degraded"] != bool(missing) or abs(line["coverage"] - share) > _TOLERANCE:
        return MISLABELLED
    return DEGRADED if missing else FULL


def _is_of_another(number: Any, others: Any, values: Any, weights: Weights) -> bool:
    """Whether some members, or all, have answered another request's row."""
    for used in _subsets(weights):
        for swapped in _subsets(used):
            right = fused(number, used, weights)
            right = right - sum(part(number, member, used, weights) for member in swapped)
            found = right + sum(part(others, member, used, weights) for member in swapped)
            if (np.abs(found - values).max(axis=1, initial=0) < _TOLERANCE).any():
                return True
    return False


def _subsets(members: Iterable[str]) -> Iterator[tuple[str, ...]]:
    found = sorted(members)
    return itertools.chain.from_iterable(itertools.combinations(found, n) for n in range(len(found), 0, -1))


def _close(one: Any, other: Any) -> bool:
    return one.shape == other.shape and bool(np.abs(one - other).max() < _TOLERANCE)


@dataclass(frozen=True)
class Judged:
    """One request, judged. Times are of this machine's monotonic clock.

    Attributes:
        door: that answered, or was asked last.
        tries: how many doors were asked.
    """

    number: int
    due: float
    done: float
    door: str
    protocol: str
    tries: int
    kind: str
    line: Mapping[str, Any]


class Report:
    """What became of all requests of a load."""

    def __init__(self, judged: Iterable[Judged]):
        self.requests = sorted(judged, key=lambda request: request.due)

    @classmethod
    def read(cls, log: Path, revisions: Mapping[str, Weights]) -> Report:
        """Judge what ``load`` wrote."""
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        numbers = [line["number"] for line in lines]
        return cls(
            Judged(
                line["number"], line["due"], line["done"], line["door"], line["protocol"], line["tries"],
                classify(line, revisions, numbers), line,
            )
            for line in lines
        )  # fmt: skip

    def due(self, since: float = 0.0, until: float = float("inf")) -> Report:
        """Of the requests that were due in a span of time."""
        return Report(request for request in self.requests if since <= request.due < until)

    @property
    def counts(self) -> Counter[str]:
        """How many of each class."""
        return Counter(request.kind for request in self.requests)

    @property
    def answered(self) -> float:
        """The share of requests that were answered, in full or degraded and labelled."""
        return sum(self.counts[kind] for kind in ANSWERED) / max(1, len(self.requests))

    def within_s(self, share: float) -> float:
        """How long after it was due a share of the requests was done, at most."""
        return float(np.quantile([request.done - request.due for request in self.requests], share))

    def assert_safe(self) -> None:
        """No answer is wrong, another request's or mislabelled, and none is lost: under every fault."""
        harmed = [request for request in self.requests if request.kind in UNSAFE]
        assert not harmed, f"{dict(self.counts)}; the first: {dict(harmed[0].line)}"

    def assert_answered(self, share: float = 1.0) -> None:
        """Safe, and at least so many answered."""
        self.assert_safe()
        others = [request for request in self.requests if request.kind not in ANSWERED]
        found = f"{self.answered:.4%} of {len(self.requests)} answered, {dict(self.counts)}"
        assert self.requests, "nothing was asked"
        assert self.answered >= share, f"{found}; the first of the others: {dict(others[0].line)}"

    def first_answer(self, door: str, since: float) -> float:
        """When a door first answered a request that was due at ``since`` or later; infinite for never."""
        found = (r.done for r in self.requests if r.door == door and r.due >= since and r.kind in ANSWERED)
        return min(found, default=float("inf"))
