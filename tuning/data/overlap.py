"""Are the rows an ensemble is judged on others than those its weights are solved on?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.data.labelled import Labelled, check_labelled, row_content
from quorate.tuning.errors import DataError

Inputs = Mapping[str, NDArray[Any]]
# Near copies differ by less than this share of what an input's numbers span.
_NEAR = 1 / 64
# Of an input's rows, at once.
_BLOCK_BYTES = 16 << 20


def check_rows(validation: Labelled, held_out: Labelled) -> list[str]:
    """Refuse rows that are too few, on both sides, or labelled with no class.

    Returns:
        Sentences on how labels were read, where these are numbers and classes are words, and on the rows that are on
        both sides all the same: copies, and near copies by their rounded numbers.

    Raises:
        DataError: so they are.
    """
    for name, data in (("validation", validation), ("held-out", held_out)):
        check_labelled(name, data)
        if len(data) < 2:
            raise DataError(f"{name} rows", f"{len(data)}", "give at least 2; hundreds for weights worth having")
    shared = np.intersect1d(_row_digests(validation.inputs), _row_digests(held_out.inputs))
    if len(shared) > 0.5 * min(len(validation), len(held_out)):
        found = f"{len(shared)} are also validation rows"
        raise DataError("held-out rows", found, "judge on rows the weights were not solved on")
    spans = _spans(validation)
    rounded, others = (_row_digests(one.inputs, spans) for one in (validation, held_out))
    near = len(np.intersect1d(rounded, others)) - len(shared)
    counts = {"are also validation rows": len(shared), "differ from validation rows by next to nothing": near}
    overlaps = [f"{count} of {len(held_out)} held-out rows {what}" for what, count in counts.items() if count > 0]
    return [*_numbering(validation), *overlaps]


def shared_rows(first: Inputs, second: Inputs) -> int:
    """How many rows, (N, *shape) and (J, *shape) by input, are in both."""
    return len(np.intersect1d(_row_digests(first), _row_digests(second)))


def _numbering(data: Labelled) -> list[str]:
    """How labels were read that are numbers, where classes are words: the one thing that nothing else would show."""
    if not data.numbered:
        return []
    shown = [f"{place} is {name}" for place, name in enumerate(data.classes[:3])]
    more = f", ... {len(data.classes) - 1} is {data.classes[-1]}" if len(data.classes) > 3 else ""
    return [f"labels are numbers, taken for the spec's classes in their order: {', '.join(shown)}{more}"]


def _spans(data: Labelled) -> dict[str, float]:
    """How far the numbers of each input go apart, over the first rows; inputs of text have none."""
    some = {name: array[:10_000] for name, array in data.inputs.items() if array.dtype.kind in "fiu"}
    spans = {name: float(np.nanmax(array)) - float(np.nanmin(array)) for name, array in some.items() if array.size}
    return {name: span for name, span in spans.items() if 0 < span < np.inf}


def _row_digests(inputs: Inputs, spans: Mapping[str, float] | None = None) -> NDArray[np.uint64]:
    """(N,) eight bytes of each row: enough to count equal ones, and little to hold of many.

    Args:
        inputs: (N, *shape) by name.
        spans: by input; its numbers are rounded to a share of it first.
    """
    total = np.zeros(rows := len(next(iter(inputs.values()))), dtype=np.uint64)
    for place, name in enumerate(sorted(inputs)):
        array, span = inputs[name], (spans or {}).get(name)
        if array.dtype == object:
            digests = [hashlib.blake2b(row_content(value), digest_size=8).digest() for value in array.tolist()]
            total = _mixed(total + np.frombuffer(b"".join(digests), dtype=np.uint64), place)
            continue
        step = max(1, _BLOCK_BYTES // max(1, array[:1].nbytes))
        for at in range(0, rows, step):
            block = np.asarray(array[at : at + step])
            if span is not None:
                block = np.round(np.nan_to_num(block) / (span * _NEAR)).astype(np.int64)
            total[at : at + step] = _mixed(total[at : at + step] + _hashed(block), place)
    return total


def _hashed(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """(n,) a number of each row's bytes: the sum of its words, each mixed and times an odd number of its place."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    padded = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 8)))
    words = padded.view(np.uint64)
    odd = np.random.default_rng(words.shape[1]).integers(0, 1 << 63, words.shape[1], dtype=np.uint64) * 2 + 1
    return np.asarray((_mixed(words, 0) * odd).sum(axis=1, dtype=np.uint64))


def _mixed(words: NDArray[np.uint64], salt: int) -> NDArray[np.uint64]:
    """Each bit of the result depends on all bits (Steele, Lea and Flood 2014, the finaliser of SplitMix64)."""
    found = words + np.uint64(0x9E3779B97F4A7C15 * (salt + 1) % (1 << 64))
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(found ^ (found >> np.uint64(31)))
