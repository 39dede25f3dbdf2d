"""The closed-loop load generator: wrk (C, one thread), so that the client takes as little as possible of the cores."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PATH = "/v2/models/mlps/infer"
_SCRIPT = """
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
local requests, at = {}, 0
function init(args)
  for i, body in ipairs(bodies) do
    requests[i] = wrk.format("POST", nil, {["Content-Type"] = "application/json"}, body)
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
    """What one run of wrk measured; ``rate`` counts good answers only."""

    clients: int
    requests: int
    errors: int
    rate: float
    p50_ms: float
    p99_ms: float


class Wrk:
    """Posts the same bodies, in turn, to any system."""

    def __init__(self, bodies: Sequence[bytes], folder: Path):
        if shutil.which("wrk") is None:
            sys.exit("wrk is not installed; apt-get install wrk")
        lines = folder / "bodies"
        lines.write_bytes(b"\n".join(bodies) + b"\n")
        self._script = folder / "post.lua"
        self._script.write_text(_SCRIPT % lines)

    def run(self, url: str, clients: int, duration_s: int, path: str = PATH) -> Closed:
        command = [
            "wrk",
            "-t1",
            f"-c{clients}",
            f"-d{duration_s}s",
            "--timeout=30s",
            "-s",
            str(self._script),
            url + path,
        ]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode:
            sys.exit(f"wrk could not load {url}: {ended.stdout or ended.stderr}")
        found = json.loads(ended.stderr)
        good = found["requests"] - found["errors"]
        rate = good / found["duration_s"]
        return Closed(clients, found["requests"], found["errors"], rate, found["p50_ms"], found["p99_ms"])
