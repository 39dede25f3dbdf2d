"""Closed-loop load generators in C, so that the client takes as little as possible of the cores.

wrk for HTTP (one thread, several bodies in turn), h2load of nghttp2 for gRPC (one thread, one body; each client is a
connection of its own with one call at a time).
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bodies import GRPC_INFER, HEAD_LENGTH, INFER, Rows, binary_body, grpc_message, json_body
from system import System

WIRES = {"json": "HTTP, JSON", "binary": "HTTP, binary", "grpc": "gRPC, binary"}
_SCRIPT = """
local requests, at = {}, 0
function init(args)
  for i = 1, %d do
    local file = io.open("%s" .. i, "rb")
    requests[i] = wrk.format("POST", nil, {%s}, file:read("*a"))
    file:close()
  end
end
function request()
  at = at %% #requests + 1
  return requests[at]
end
function done(summary, latency, all)
  local e = summary.errors
  io.stderr:write(string.format('{"requests": %%d, "duration_s": %%f, "errors": %%d, "p50_ms": %%f, "p99_ms": %%f}\\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True)
class Closed:
    """What one run measured; ``rate`` counts good answers only.

    Attributes:
        cpu_s: processor time of the system for 1,000 answers.
    """

    clients: int
    requests: int
    errors: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_s: float = 0.0


class Loads:
    """Asks any system for the answers to the same rows, in turn.

    Args:
        rows: (1, F) each.
        folder: an empty one, for bodies and scripts.
        inside: words before a command, that run it elsewhere: in a network namespace, say.
    """

    def __init__(self, rows: Sequence[Rows], folder: Path, inside: Sequence[str] = ()):
        for name, package in (("wrk", "wrk"), ("h2load", "nghttp2-client")):
            if shutil.which(name) is None:
                sys.exit(f"{name} is not installed; apt-get install {package}")
        self._folder, self._inside = folder, tuple(inside)
        self._write("json", [json_body(row) for row in rows], {"Content-Type": "application/json"})
        binary = [binary_body(row) for row in rows]
        headers = {"Content-Type": "application/octet-stream"}
        self._write("binary", [body for body, _ in binary], {**headers, HEAD_LENGTH: str(binary[0][1])})
        self._write("raw", [row.tobytes() for row in rows], headers)
        message = grpc_message(rows[0])
        (folder / "grpc").write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)

    def run(self, system: System, wire: str, clients: int, duration_s: int) -> Closed:
        """Ask a system for so long."""
        before = system.cpu_s()
        if wire == "grpc":
            found = self.grpc(system.details["grpc"], clients, duration_s)
        elif wire == "binary" and "raw" in system.details:
            found = self.http(system.details["raw"], "raw", clients, duration_s)
        else:
            found = self.http(system.url + INFER, wire, clients, duration_s)
        answered = max(found.requests - found.errors, 1)
        return replace(found, cpu_s=1000 * (system.cpu_s() - before) / answered)

    def http(self, url: str, wire: str, clients: int, duration_s: int) -> Closed:
        command = ("wrk", "-t1", f"-c{clients}", f"-d{duration_s}s", "--timeout=30s", "-s", str(self._script(wire)))
        ended = subprocess.run([*self._inside, *command, url], capture_output=True, text=True, check=False)
        if ended.returncode:
            sys.exit(f"wrk could not load {url}: {ended.stdout or ended.stderr}")
        found = json.loads(ended.stderr)
        rate = (found["requests"] - found["errors"]) / found["duration_s"]
        return Closed(clients, found["requests"], found["errors"], rate, found["p50_ms"], found["p99_ms"])

    def grpc(self, address: str, clients: int, duration_s: int) -> Closed:
        """gRPC says in its trailers that a call failed, which h2load does not read: see ``answers_alike`` in
        ``serving``, and the size of what came, which must be that of answers."""
        log = self._folder / "h2load.log"
        log.unlink(missing_ok=True)
        command = (
            "h2load", "-t1", f"-c{clients}", "-m1", f"-D{duration_s}", "-d", str(self._folder / "grpc"),
            "-H", "content-type: application/grpc", "-H", "te: trailers", f"--log-file={log}",
            f"http://{address}{GRPC_INFER}",
        )  # fmt: skip
        ended = subprocess.run([*self._inside, *command], capture_output=True, text=True, check=False)
        counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", ended.stdout)
        size = re.search(r"\((\d+)\) data", ended.stdout)
        if ended.returncode or counts is None or size is None or not log.exists():
            sys.exit(f"h2load could not load {address}: {ended.stdout}{ended.stderr}")
        taken = [int(line.split("\t")[2]) / 1e3 for line in log.read_text().splitlines()]
        done, succeeded = int(counts[1]), int(counts[2])
        # An answer holds ten floats at least; a call that fails brings no data.
        errors = max(done - succeeded, done - int(size[1]) // 40, 0)
        taken.sort()
        p99 = taken[int(0.99 * (len(taken) - 1))] if taken else 0.0
        p50 = statistics.median(taken) if taken else 0.0
        return Closed(clients, done, errors, (done - errors) / duration_s, p50, p99)

    def _write(self, wire: str, bodies: Sequence[bytes], headers: dict[str, str]) -> None:
        for number, body in enumerate(bodies, start=1):
            (self._folder / f"{wire}{number}").write_bytes(body)
        table = ", ".join(f'["{name}"] = "{value}"' for name, value in headers.items())
        self._script(wire).write_text(_SCRIPT % (len(bodies), self._folder / wire, table))

    def _script(self, wire: str) -> Path:
        return self._folder / f"{wire}.lua"
