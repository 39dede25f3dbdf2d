"""Are the rows an ensemble is judged on others than those its weights are solved on?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.data.labelled import Labelled, check_labelled
from quorate.tuning.errors import DataError

# Near copies differ by less than this share of what an input's numbers span.
_NEAR = 1 / 64


def check_rows(validation: Labelled, held_out: Labelled) -> list[str]:
    """Refuse rows that are too few, on both sides, or labelled with no class.

    Returns:
        Sentences on the rows that are on both sides all the same: copies, and near copies by their rounded numbers.

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
    spans = _spans(validation)
    near = len(np.intersect1d(_row_digests(validation, spans), _row_digests(held_out, spans))) - len(shared)
    counts = {"are also validation rows": len(shared), "differ from validation rows by next to nothing": near}
    return [f"{count} of {len(held_out)} held-out rows {what}" for what, count in counts.items() if count > 0]


def _spans(data: Labelled) -> dict[str, float]:
    """How far the numbers of each input go apart, over the first rows; inputs of text have none."""
    some = {name: array[:10_000] for name, array in data.inputs.items() if array.dtype.kind in "fiu"}
    spans = {name: float(np.nanmax(array)) - float(np.nanmin(array)) for name, array in some.items() if array.size}
    return {name: span for name, span in spans.items() if 0 < span < np.inf}


def _row_digests(data: Labelled, spans: Mapping[str, float] | None = None) -> NDArray[np.uint64]:
    """(N,) eight bytes of each row: enough to count equal ones, and little to hold of many.

    Args:
        data: the rows.
        spans: by input; its numbers are rounded to a share of it first.
    """
    arrays = [(data.inputs[name], (spans or {}).get(name)) for name in sorted(data.inputs)]
    digests = (_digest_row([(array[i], span) for array, span in arrays]) for i in range(len(data)))
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def _digest_row(values: list[tuple[Any, float | None]]) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for given, span in values:
        value = np.asarray(given)
        if span is not None:
            value = np.round(np.nan_to_num(value) / (span * _NEAR)).astype(np.int64)
        digest.update(repr(value.tolist()).encode() if value.dtype == object else value.tobytes())
    return digest.digest()
