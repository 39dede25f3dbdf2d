"""A question to the ensemble and its answer, as the doors and the engine hand them to each other."""

# M members, B rows, C classes

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.telemetry.tracer import RequestTrace
from quorate.deployments.wire.answer_id import ANSWER_ID

if TYPE_CHECKING:
    from quorate.deployments.engine.revision import Revision
    from quorate.deployments.engine.revision_set import ServedRevision
    from quorate.deployments.routing.reply import MemberReply
    from quorate.fusion.base import FusedArrays

Array = NDArray[Any]
Signature = tuple[tuple[str, tuple[int, ...], np.dtype[Any]], ...]
# Takes a result, or an error instead of one.
Tell = Callable[[Any, "BaseException | None"], None]
# 1 is the highest. In a full queue the lowest are shed first.
PRIORITY_LEVELS, DEFAULT_PRIORITY = 3, 2


def nobody(result: Any, error: BaseException | None) -> None:
    """Nobody waits."""


@dataclass(frozen=True)
class Explanation:
    """What each member said, (B, ...) by member, zeros where absent, and each fused member's share of each row (B,)."""

    outputs: Mapping[str, Array]
    contributions: Mapping[str, NDArray[np.float32]]

    def named(self, before: str = "") -> dict[str, Array]:
        """Both as outputs of an answer, each behind this in its name."""
        found: dict[str, Array] = {f"{before}{name}.output": values for name, values in self.outputs.items()}
        return found | {f"{before}{name}.contribution": share for name, share in self.contributions.items()}


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
        id: what it is called, see ``wire/answer_id.py``.
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
    id: str = ""

    @property
    def degraded(self) -> bool:
        return bool(self.members_missing)

    @property
    def least_coverage(self) -> float:
        """Of all rows."""
        return float(self.coverage.min() if len(self.coverage) > 1 else self.coverage[0])

    def parameters(self) -> dict[str, str | float | bool]:
        """The answer's account of itself, in types that every wire of the protocol carries."""
        parameters: dict[str, str | float | bool] = {
            "revision": self.revision,
            "members_used": ",".join(self.members_used),
            "members_missing": "",
            "coverage": self.least_coverage,
            "degraded": self.degraded,
            ANSWER_ID: self.id,
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


class Promise:
    """A result to come, or an error. Unlike with a future, who waits for it is told at once, by a call.

    Attributes:
        result: None before it is there.
        error: instead of a result.
    """

    __slots__ = ("_then", "error", "result")

    def __init__(self, then: Callable[[], None]):
        self._then: Callable[[], None] | None = then
        self.result: Any = None
        self.error: BaseException | None = None

    def done(self) -> bool:
        """Whether it is there."""
        return self._then is None

    def set_result(self, result: Any) -> None:
        self.result = result
        self._tell()

    def set_exception(self, error: BaseException) -> None:
        self.error = error
        self._tell()

    def drop(self) -> None:
        """Nobody waits any more: what still comes is not wanted."""
        self._then = None

    def take(self) -> tuple[Any, BaseException | None]:
        """Result and error, which are kept no longer: an error keeps the frames that it has seen, and they the rows."""
        found = self.result, self.error
        self.result = self.error = None
        return found

    def _tell(self) -> None:
        then, self._then = self._then, None
        assert then is not None
        then()


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
        outputs: of several, those that are asked for; the promise's result is then of each of them.
        trace: that it belongs to; None for nearly all.
        tell: called in the end, by who has made it, with the result or the error.
        rehearsal: nobody asked it, and nothing of it is kept.
        answer_id: what its answer is called; empty before its batch starts.
        watchers: are told what the answer is fused from.
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
    tell: Tell = nobody
    rehearsal: bool = False
    answer_id: str = ""
    watchers: tuple[Watcher, ...] = ()
    promise: Promise = field(init=False)
    rows: int = field(init=False)
    nbytes: int = field(init=False)
    signature: Signature = field(init=False)

    def __post_init__(self) -> None:
        nbytes, signature, array = 0, [], None
        for name, array in self.inputs.items():
            shape, dtype = array.shape, array.dtype
            nbytes += array.nbytes if dtype.kind != "O" else _text_bytes(array)
            signature.append((name, shape[1:], dtype))
        assert array is not None
        self.rows, self.nbytes, self.signature = len(next(iter(self.inputs.values()))), nbytes, tuple(signature)

    def joins(self, other: Request) -> bool:
        """Whether both fit one batch: rows of the same shapes, asked of the same members by the same revision."""
        same = self.members == other.members and self.served is other.served and self.outputs == other.outputs
        return same and self.signature == other.signature


class Watcher(Protocol):
    """Is told what answers were fused from. Called on the event loop, it takes no longer than to take note."""

    def keep(
        self, revision: Revision, outputs: Array, states: Array, fused: FusedArrays,
        answered: Sequence[tuple[Request, int]], upstream: Mapping[str, MemberReply], start: int,
    ) -> None:  # fmt: skip
        """Take note of what was fused together.

        Args:
            outputs: (M, B, ...) of the members, as the rule read them.
            states: (N, B) RowState of the members and, behind them, of those that other members read.
            fused: of the B rows.
            answered: the requests that were answered of it, and where in the B rows theirs begin.
            upstream: replies of members that other members read.
            start: where the B rows begin in these replies.
        """


class Keeper(Watcher, Protocol):
    """Keeps some of it."""

    def wants(self) -> bool:
        """Whether the answers of the next batch are to be kept."""


def _text_bytes(array: Array) -> int:
    return array.nbytes + sum(map(len, array.flat))
