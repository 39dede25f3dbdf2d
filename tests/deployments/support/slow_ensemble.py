"""Doors before one member that takes as long as it is told, and what asks it by hand."""

import json
from typing import Any

import httpx

from tests.deployments.support.http2_client import ROW, infer_request


def body(rows=ROW):
    data = {"name": "x", "datatype": "FP32", "shape": rows.shape, "data": rows.ravel().tolist()}
    return json.dumps({"inputs": [data]}).encode()


def message(rows=ROW):
    """The same as ``body`` over gRPC."""
    return infer_request(rows, "slow")


def head(length, more=""):
    return f"POST /v2/models/slow/infer HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n{more}\r\n".encode()


class Slow:
    """Doors before one member that takes as long as it is told."""

    def __init__(self, open_doors, folder, **changes):
        self._switch, self._log = folder / "switch", folder / "log"
        self._log.touch()
        self.take(0)
        config = {"shift": 1, "switch": str(self._switch), "log": str(self._log)}
        member = {"model": "known:slow", "inputs": ["x"], "output": "probabilities", "config": config}
        spec: dict[str, Any] = {
            "name": "slow", "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "classes": ["red", "green", "blue"],
            "members": {"m": member}, "fusion": {"rule": "mean", "deadline_s": 60.0},
        }  # fmt: skip
        for place, change in changes.items():
            (member if place == "member" else spec.setdefault(place, {})).update(change)
        self.doors = open_doors(spec)
        self.right = httpx.post(f"{self.doors.http}/v2/models/slow/infer", content=body(), timeout=60).json()

    def take(self, seconds):
        self._switch.write_text(str(seconds))

    def begun(self):
        """The first number of each row that the member has begun to work on."""
        return self._log.read_text().split()

    def nothing_is_under_way(self):
        engine = self.doors.engine
        return engine.queued_rows == engine.unanswered_batches == self.doors.service.budget.held_bytes == 0


def whole_answer(line):
    found = b""
    while b"\r\n\r\n" not in found:
        found += line.recv(65536)
    start, _, rest = found.partition(b"\r\n\r\n")
    assert start.startswith(b"HTTP/1.1 200"), start
    length = int(next(field.split()[1] for field in start.lower().splitlines() if field.startswith(b"content-length")))
    while len(rest) < length:
        rest += line.recv(65536)
    return json.loads(rest)
