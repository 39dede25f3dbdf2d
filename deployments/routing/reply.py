"""What a member said about a batch, and how a replica's message is checked before anybody reads it."""

# B rows

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.transport.messages import Kind, Message
from quorate.deployments.transport.row_state import LAST_OF_REPLICA

Array = NDArray[Any]

_FAILURE = Kind.FAILURE  # looking a name up in an enum takes Python 3.11 longer than the call it is for
_UINT8 = np.dtype(np.uint8)


@dataclass(slots=True)
class MemberReply:
    """What one member said about a batch.

    Attributes:
        values: (B, ...), None when there is nothing usable.
        status: (B,) RowState, None with values.
        reason: why nothing is usable: deadline, dead, error, shape or shed.
        inference_s: seconds the replica computed.
        failed_rows: how many rows of ``values`` may not be used.
        latency_s: seconds from the question to this reply.
    """

    values: Array | None
    status: NDArray[np.uint8] | None
    reason: str = ""
    inference_s: float = 0.0
    failed_rows: int = 0
    latency_s: float = 0.0


def read_reply(message: Message, rows: int, latency_s: float) -> MemberReply:
    """The usable rows of a replica's message; a message that does not fit the question has none."""
    if message.kind is _FAILURE:
        return MemberReply(None, None, "error")
    if not _well_formed(message.tensors, rows):
        return MemberReply(None, None, "shape")
    values, status = message.tensors
    failed_rows = len(status.nonzero()[0])  # OK is 0
    if failed_rows and int(status.max()) > LAST_OF_REPLICA:
        return MemberReply(None, None, "shape")
    return MemberReply(values, status, "", message.number, failed_rows, latency_s)


def _well_formed(tensors: Sequence[Array], rows: int) -> bool:
    """Whether an answer holds one value and one state for each row, in numbers."""
    if len(tensors) != 2:
        return False
    values, status = tensors
    shape = values.shape
    fits = len(shape) > 0 and shape[0] == rows and status.shape == (rows,)
    return fits and values.dtype.kind in "biuf" and status.dtype == _UINT8
