"""Rows that a member is not sent again for a while, because its replicas died while they had them.

A row may kill the process that runs it, and the client whose answer lacks that member sends it again: without this it
kills one replica after the other (queries of death; Dean and Barroso, "The Tail at Scale", CACM 2013). Nobody can know
which of a replica's rows was to blame, so a row is let off once, and forgotten once it has been answered.
"""

# B rows

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.transport.messages import Payload

DEATHS_TO_HOLD_BACK = 2
# How long a death counts. Rows that were not to blame go without the member for so long, if they are sent again.
COUNTS_S = 60.0
MAX_ROWS = 4096
# Of a longer row every second element is looked at, or every third, and so on.
KEY_BYTES = 64 << 10


class Quarantine:
    """The rows of one member, by what they hold.

    Attributes:
        deaths: of each row that is known; while there are none, nothing need be looked up.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        # How many, when the last was, and which replica's.
        self.deaths: OrderedDict[int, tuple[int, float, Hashable]] = OrderedDict()

    def add(self, payload: Payload, replica: Hashable) -> None:
        """A replica died that had these rows, maybe several times."""
        now = self._clock()
        for key in _keys(payload):
            count, last, before = self.deaths.pop(key, (0, now, None))
            recent = count if now - last < COUNTS_S else 0
            self.deaths[key] = (recent + (before != replica or not recent), now, replica)
        while len(self.deaths) > MAX_ROWS:
            self.deaths.popitem(last=False)

    def clear(self, payload: Payload) -> None:
        """These rows have been run, and nobody died."""
        for key in _keys(payload):
            self.deaths.pop(key, None)

    def held(self, payload: Payload) -> NDArray[np.bool_]:
        """(B,) the rows that are to be held back now."""
        now = self._clock()
        while self.deaths and now - next(iter(self.deaths.values()))[1] >= COUNTS_S:
            self.deaths.popitem(last=False)
        if not self.deaths:
            return np.zeros(payload.rows, bool)
        counts = [self.deaths[key][0] if key in self.deaths else 0 for key in _keys(payload)]
        return np.array(counts) >= DEATHS_TO_HOLD_BACK


def _keys(payload: Payload) -> list[int]:
    """A number for each row; Python's hash of bytes cannot be steered from outside."""
    return [hash(tuple(map(_bytes, row))) for row in zip(*payload.tensors, strict=True)]


def _bytes(values: Any) -> Any:
    array = np.asarray(values)
    flat = array.ravel()
    if array.dtype.kind == "O":
        return tuple(flat.tolist())
    return flat[:: math.ceil(array.nbytes / KEY_BYTES) or 1].tobytes()
