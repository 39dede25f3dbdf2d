"""The shape of a row as a file has it, and as the model reads it."""

# R rows

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from quorate.deployments.rows.column import Array, Column, Place, even
from quorate.deployments.rows.uneven import of_rows


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
    if shape is None or fits(sizes, shape):
        return leaves.reshape(rows, *sizes)
    if -1 not in shape and (_without_ones(sizes) == _without_ones(shape) or list(sizes) == [math.prod(shape)]):
        return leaves.reshape(rows, *shape)
    found = f"has rows of shape {list(sizes)}, the model reads {list(shape)}"
    if fits((rows, *sizes), shape):
        raise place.whole(
            found, "it holds one row without the axis of rows: put it into a list of rows, or save array[None]"
        )
    raise place.whole(found, "give it that shape, or one flat list a row")


def shaped_rows(leaves: Array, column: Column, shape: Sequence[int] | None, place: Place) -> Array:
    """(R,) arrays of the leaves of a column whose rows have other shapes.

    Raises:
        RowsError: the model reads rows of one shape, or of another than one has.
    """
    assert column.shapes is not None
    shapes = column.shapes.tolist()
    for row, sizes in enumerate(shapes):
        if shape is None or -1 not in shape:
            even(place, column)
        elif 0 in sizes and len(sizes) == len(shape):  # nothing says how wide what is not there would be
            shapes[row] = [max(size, 0) for size in shape]
        elif not fits(sizes, shape):
            raise place.error(row, f"shape {sizes}, the model reads {list(shape)}", "give it that shape")
    parts = np.split(leaves, column.ends[:-1])
    return of_rows([part.reshape(sizes) for part, sizes in zip(parts, shapes, strict=True)])


def fits(sizes: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether a row of these sizes is one of the shape, where -1 is any size."""
    return len(sizes) == len(shape) and all(want in (-1, got) for want, got in zip(shape, sizes, strict=True))


def _without_ones(sizes: Sequence[int]) -> list[int]:
    return [size for size in sizes if size != 1]
