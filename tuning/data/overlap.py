"""Are the rows an ensemble is judged on others than those its weights are solved on?"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.data.labelled import Labelled, check_labelled
from quorate.tuning.errors import DataError


def check_rows(validation: Labelled, held_out: Labelled) -> None:
    """Refuse rows that are too few, on both sides, or labelled with no class.

    Raises:
        DataError: so they are.
    """
    for name, data in (("validation", validation), ("held-out", held_out)):
        check_labelled(name, data)
        if len(data) < 2:
            raise DataError(f"{name} rows", f"{len(data)}", "give at least 2; hundreds for weights worth having")
    shared = np.intersect1d(_row_digests(validation), _row_digests(held_out))
    if len(shared) > 0.5 * min(len(validation), len(held_out)):
        found = f"{len(shared)} are also validation rows"
        raise DataError("held-out rows", found, "judge on rows the weights were not solved on")


def _row_digests(data: Labelled) -> NDArray[np.uint64]:
    """(N,) eight bytes of each row: enough to count equal ones, and little to hold of many."""
    arrays = [data.inputs[name] for name in sorted(data.inputs)]
    digests = (_digest_row([array[i] for array in arrays]) for i in range(len(data)))
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def _digest_row(values: list[Any]) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for value in map(np.asarray, values):
        digest.update(repr(value.tolist()).encode() if value.dtype == object else value.tobytes())
    return digest.digest()
