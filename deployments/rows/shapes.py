"""The shape of a row as a file has it, and as the model reads it."""

# R rows

from __future__ import annotations

import math
from collections.abc import Sequence

from quorate.deployments.rows.column import Array, Place


def shaped(leaves: Array, rows: int, sizes: Sequence[int], shape: Sequence[int] | None, place: Place) -> Array:
    """(R, *shape) of (R * prod(sizes),) leaves.

    A row may also be flat, one list of all its elements in row-major order, and sizes of 1 may be left out or added: a
    plain number for shape [1], an image of [28, 28] for [1, 28, 28]. The first axis is always the rows'.

    Args:
        sizes: the shape of a row in the file.
        shape: what the model reads, -1 for a free size; the file's own when None.

    Raises:
        RowsError: one cannot be the other.
    """
    if not rows:
        return leaves.reshape(0, *(max(size, 0) for size in (sizes if shape is None else shape)))
    if shape is None or _matches(sizes, shape):
        return leaves.reshape(rows, *sizes)
    if -1 not in shape and (_without_ones(sizes) == _without_ones(shape) or list(sizes) == [math.prod(shape)]):
        return leaves.reshape(rows, *shape)
    found = f"has rows of shape {list(sizes)}, the model reads {list(shape)}"
    if _matches((rows, *sizes), shape):
        raise place.whole(
            found, "it holds one row without the axis of rows: put it into a list of rows, or save array[None]"
        )
    raise place.whole(found, "give it that shape, or one flat list a row")


def _matches(sizes: Sequence[int], shape: Sequence[int]) -> bool:
    return len(sizes) == len(shape) and all(want in (-1, got) for want, got in zip(shape, sizes, strict=True))


def _without_ones(sizes: Sequence[int]) -> list[int]:
    return [size for size in sizes if size != 1]
