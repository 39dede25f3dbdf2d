"""What two interpreters say to each other: a line of JSON and raw tensors; nothing is pickled, versions may differ."""

from __future__ import annotations

from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from quorate.deployments.wire.binary_tensors import decode, described

Array = NDArray[Any]


def send(connection: Connection, said: Mapping[str, Any], tensors: Mapping[str, Array] | None = None) -> None:
    """Raises OSError where nobody listens any more."""
    heads, blobs = described(tensors or {})
    connection.send_bytes(orjson.dumps({**said, "tensors": heads}))
    for blob in blobs:
        connection.send_bytes(blob)


def receive(connection: Connection) -> tuple[dict[str, Any], dict[str, Array]]:
    """What was said, and the tensors by name; these may be written to.

    Raises:
        EOFError, OSError: nobody speaks any more.
    """
    said = orjson.loads(connection.recv_bytes())
    tensors = {
        head["name"]: np.array(decode(connection.recv_bytes(), head["datatype"], tuple(head["shape"])))
        for head in said.pop("tensors")
    }
    return said, tensors
