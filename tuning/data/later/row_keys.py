"""Names of rows by what they are: the same rows have the same ones in every process."""

# N rows

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.data.labelled import row_content

Keys = NDArray[np.uint64]


def row_keys(inputs: Mapping[str, NDArray[Any]]) -> Keys:
    """(N,) eight bytes of each row's inputs, (N, ...) by name: of a million rows two are taken for one in 4e7 runs."""
    names = sorted(inputs)
    columns = [_contents(inputs[name]) for name in names]
    return _digests(b"".join(parts) for parts in zip(*columns, strict=True))


def answer_keys(ids: Iterable[str], numbers: Iterable[int]) -> Keys:
    """(N,) of rows of recorded answers: which row of which answer."""
    return _digests(f"{name}/{row}".encode() for name, row in zip(ids, numbers, strict=True))


def places_in(keys: Keys, known: Keys) -> NDArray[np.intp]:
    """(N,) where each of ``keys`` stands in ``known``; -1 where it does not."""
    if not len(known):
        return np.full(len(keys), -1)
    order = np.argsort(known, kind="stable")
    at = np.searchsorted(known, keys, sorter=order).clip(max=len(known) - 1)
    return np.where(known[order[at]] == keys, order[at], -1)


def _digests(contents: Iterable[bytes]) -> Keys:
    found = b"".join(hashlib.blake2b(one, digest_size=8).digest() for one in contents)
    return np.frombuffer(found, dtype="<u8").astype(np.uint64)


def _contents(array: NDArray[Any]) -> Iterable[bytes]:
    if array.dtype == object:
        return (row_content(row) for row in array)
    head = f"{array.dtype.str} {array.shape[1:]} ".encode()
    return (head + np.ascontiguousarray(array[at : at + 1]).tobytes() for at in range(len(array)))
