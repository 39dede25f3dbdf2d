"""A question to the ensemble and its answer, as the doors and the engine hand them to each other."""

# M members, B rows, C classes

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.telemetry.tracer import RequestTrace

if TYPE_CHECKING:
    from quorate.deployments.engine.revision_set import ServedRevision

Array = NDArray[Any]
Signature = tuple[tuple[str, tuple[int, ...], np.dtype[Any]], ...]
# 1 is the highest. In a full queue the lowest are shed first.
PRIORITY_LEVELS, DEFAULT_PRIORITY = 3, 2


@dataclass(frozen=True)
class Explanation:
    """What each member said, (B, ...) by member, zeros where absent, and each fused member's share of each row (B,)."""

    outputs: Mapping[str, Array]
    contributions: Mapping[str, NDArray[np.float32]]


@dataclass(slots=True)  # a frozen one takes four times as long to make, and there is one for every request
class Answer:
    """A fused output and what it was fused from.

    Attributes:
        values: (B, C) float32.
        revision: the one state of the fusion it was computed with.
        members_used: members fused in at least one row.
        members_missing: reason by member, for members missing from at least one row.
        rows_missing: the rows, for members that are missing from some rows only.
        coverage: (B,) the share of weight that answered.
        abstained: rows the rule declined to decide.
        queued_s: how long the rows waited for a batch.
        certainty: parameters that say how sure the rows are.
    """

    values: NDArray[np.float32]
    revision: str
    members_used: tuple[str, ...]
    members_missing: Mapping[str, str]
    rows_missing: Mapping[str, tuple[int, ...]]
    coverage: NDArray[np.float32]
    abstained: tuple[int, ...] = ()
    explanation: Explanation | None = None
    queued_s: float = 0.0
    certainty: Mapping[str, str | float] = field(default_factory=dict)

    @property
    def degraded(self) -> bool:
        return bool(self.members_missing)

    def parameters(self) -> dict[str, str | float | bool]:
        """The answer's account of itself, in types that every wire of the protocol carries."""
        parameters: dict[str, str | float | bool] = {
            "revision": self.revision,
            "members_used": ",".join(self.members_used),
            "members_missing": "",
            "coverage": float(self.coverage.min() if len(self.coverage) > 1 else self.coverage[0]),
            "degraded": self.degraded,
        }
        if self.members_missing:
            missing = [f"{name}:{reason}" for name, reason in self.members_missing.items()]
            parameters["members_missing"] = ",".join(missing)
        if self.rows_missing:
            rows = (f"{name}:{' '.join(map(str, at))}" for name, at in self.rows_missing.items())
            parameters["rows_missing"] = ",".join(rows)
        if self.abstained:
            parameters["rows_abstained"] = " ".join(map(str, self.abstained))
        parameters.update(self.certainty)
        return parameters


@dataclass(eq=False, slots=True)
class Request:
    """Rows on their way through the engine.

    Attributes:
        inputs: request inputs, (B, *shape) each, already checked against the spec.
        deadline: monotonic time at which an answer is due.
        allowed_s: how long after its arrival that is.
        served: the revision that answers it, from the queue to the fusion.
        members: ask only these; None for all.
        priority: from 1, the highest, to PRIORITY_LEVELS.
        outputs: of several, those that are asked for; the future's result is then of each of them.
        trace: that it belongs to; None for nearly all.
    """

    inputs: Mapping[str, Array]
    served: ServedRevision
    deadline: float
    explain: bool = False
    members: tuple[str, ...] | None = None
    allowed_s: float = 0.0
    priority: int = DEFAULT_PRIORITY
    outputs: tuple[str, ...] = ()
    trace: RequestTrace | None = None
    future: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    rows: int = field(init=False)
    nbytes: int = field(init=False)
    signature: Signature = field(init=False)

    def __post_init__(self) -> None:
        self.rows = len(next(iter(self.inputs.values())))
        self.nbytes = sum([a.nbytes if a.dtype.kind != "O" else _text_bytes(a) for a in self.inputs.values()])
        self.signature = tuple([(name, a.shape[1:], a.dtype) for name, a in self.inputs.items()])

    def joins(self, other: Request) -> bool:
        """Whether both fit one batch: rows of the same shapes, asked of the same members by the same revision."""
        same = self.members == other.members and self.served is other.served and self.outputs == other.outputs
        return same and self.signature == other.signature


def _text_bytes(array: Array) -> int:
    return array.nbytes + sum(map(len, array.flat))
