"""Members of the protocol benchmark: they compute nothing, so that only the way there and back is measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def same() -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """(B, C) what came in."""
    return lambda rows: rows
