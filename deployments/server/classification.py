"""Triton's classification extension: the best classes of each row instead of the values."""

# B rows, C classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.errors import RequestError
from quorate.deployments.memory_budget import MemoryHold
from quorate.deployments.server.heavy_work import HeavyWork

Array = NDArray[Any]
# What one class of one row takes as text and as Python's object around it.
BYTES_PER_CLASS = 100


def top_classes(values: Array, count: int, labels: Sequence[str] | None) -> Array:
    """The best classes of each row as the classification extension writes them, best first.

    Args:
        values: (B, ...).
        labels: of the columns; left out when None or of another number.

    Returns:
        (B, min(count, C)) of ``value:index:label``; of equal values the first is the better.

    Raises:
        RequestError: the values are strings.
    """
    if values.dtype == object:
        raise RequestError("the output holds strings, which have no best; leave out parameter classification")
    flat = values.reshape(len(values), -1)
    best = _best(flat, min(count, flat.shape[1]))
    named = labels is not None and len(labels) == flat.shape[1]
    ends = [f":{column}:{labels[column]}" if named and labels else f":{column}" for column in range(flat.shape[1])]
    found = np.take_along_axis(flat, best, axis=1)
    classes = np.empty(best.size, dtype=object)
    classes[:] = [
        f"{value:f}{ends[column]}".encode()
        for value, column in zip(found.ravel().tolist(), best.ravel().tolist(), strict=True)
    ]
    return classes.reshape(best.shape)


async def classified(
    outputs: dict[str, Array], counts: Mapping[str, Any], labels: Sequence[str] | None, heavy: HeavyWork,
    hold: MemoryHold,
) -> dict[str, Array]:  # fmt: skip
    """Outputs with the best classes in the place of those that were asked for so.

    Args:
        counts: of classes, by output, as a client gave them.
        heavy, hold: where it is done, and what the request takes of the budget.

    Raises:
        RequestError: a count is no whole number from 1, or the values are strings.
    """
    for name, count in counts.items():
        if type(count) is not int or count < 1:
            raise RequestError(f"parameter classification is {count!r}; give a whole number from 1")
        if name not in outputs:  # another of several outputs
            continue
        size = classes_bytes(outputs[name], count)
        hold.add(size)
        outputs[name] = await heavy.run(size, partial(top_classes, outputs[name], count, labels))
    return outputs


def classes_bytes(values: Array, count: int) -> int:
    """About what ``top_classes`` takes for its work and its answer."""
    rows = max(len(values), 1)
    columns = values.size // rows
    return 16 * values.size + rows * min(count, columns) * BYTES_PER_CLASS


def _best(flat: Array, count: int) -> NDArray[np.intp]:
    """(B, count) columns of the largest values, without sorting the others."""
    if count < flat.shape[1]:
        least = np.partition(flat, flat.shape[1] - count, axis=1)[:, flat.shape[1] - count, None]
        above, level = flat > least, flat == least
        level &= np.cumsum(level, axis=1) <= count - above.sum(axis=1, keepdims=True)
        columns = np.nonzero(above | level)[1].reshape(len(flat), count)
    else:
        columns = np.broadcast_to(np.arange(flat.shape[1]), flat.shape)
    chosen = np.take_along_axis(flat, columns, axis=1)
    order = np.argsort(-chosen, axis=1, kind="stable") if flat.dtype.kind == "f" else _descending(chosen)
    return np.take_along_axis(columns, order, axis=1)


def _descending(chosen: Array) -> NDArray[np.intp]:
    """The stable order of whole numbers, whose negatives may not exist."""
    reverse = np.argsort(chosen[:, ::-1], axis=1, kind="stable")[:, ::-1]
    order: NDArray[np.intp] = chosen.shape[1] - 1 - reverse
    return order
