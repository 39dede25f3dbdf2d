"""Rows as the requests of a load test: tensors as bytes behind their description, so that they go as they are."""

# R rows

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from numpy.typing import NDArray

from quorate.deployments.rows.uneven import runs
from quorate.deployments.wire.binary_tensors import described

MAX_BYTES = 256 << 20  # all bodies are held; of more rows the first are sent


def given_bodies(arrays: Mapping[str, NDArray[Any]], rows: int) -> list[tuple[bytes, int]]:
    """Bodies with ``rows`` rows each, and the length of the JSON they begin with; the last has those that are left.

    Args:
        arrays: (R, ...) by input; (R,) arrays of rows of other lengths, of which those of one go together.
    """
    bodies, held_bytes = [], 0
    for at in range(0, len(next(iter(arrays.values()))), rows):
        for part in runs({name: array[at : at + rows] for name, array in arrays.items()}):
            bodies.append(_body(part))
            held_bytes += len(bodies[-1][0])
        if held_bytes > MAX_BYTES:
            break
    return bodies


def _body(arrays: Mapping[str, NDArray[Any]]) -> tuple[bytes, int]:
    tensors, blobs = described(arrays)
    head = orjson.dumps({"inputs": tensors})
    return b"".join([head, *blobs]), len(head)
