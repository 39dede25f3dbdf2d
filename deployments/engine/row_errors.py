"""What to tell a client whose row no member has a finite answer for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.errors import NonFiniteRowError


def nonfinite_row(row: int, members: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> NonFiniteRowError:
    """The error for a row that members answered with NaN or infinity, with what is seen of the cause.

    NaN may stand for a missing value that a model knows how to read, so inputs are let in as they are; but where no
    quorum of members makes anything of them, asking again does not help, and only the client can change the row.

    Args:
        row: of the request.
        inputs: of the request, (B, *shape) each.
    """
    for name, array in inputs.items():
        if not _is_finite(array[row]):
            return NonFiniteRowError(row, ", ".join(members), f"input '{name}' holds NaN or infinity there")
    return NonFiniteRowError(row, ", ".join(members), "its inputs are finite, but the models' outputs for them are not")


def _is_finite(values: NDArray[Any]) -> bool:
    if values.dtype.kind in "biuOSU":
        return True
    return bool(np.isfinite(values.astype(np.float64)).all())  # bfloat16 is no kind of NumPy's own
