"""Clients that ask while something is done to the cluster, and what became of their requests."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cluster.three_nodes.classify import Report
from tests.cluster.three_nodes.machine import wait_for
from tests.cluster.three_nodes.oracle import Weights

_QUIET_S = 5.0


class Asking:
    """Clients that ask now.

    Attributes:
        report: what became of it all, when they have ended.
    """

    report: Report

    def __init__(self, process: subprocess.Popen[str], log: Path, doors: int):
        self._process, self._log, self._doors = process, log, doors

    def answered(self, more: int = 1) -> None:
        """Wait until so many more requests are done."""
        wanted = len(self._log.read_text().splitlines()) + more
        wait_for(lambda: len(self._log.read_text().splitlines()) >= wanted, f"{more} more requests done")

    def last(self, seconds: float) -> None:
        """Let them ask for so long."""
        time.sleep(seconds)  # it is what a load does
        assert self._process.poll() is None

    def door_answers(self, door: str, timeout_s: float = 90) -> float:
        """Wait until a door answers a request that is due from now on; returns how long that took."""
        since = time.monotonic()

        def answers() -> bool:
            done = self._done()
            return any(line["due"] >= since and line["door"] == door and line["outcome"] == "answer" for line in done)

        wait_for(answers, f"the door of {door} answers", timeout_s)
        return time.monotonic() - since

    def all_is_well(self, timeout_s: float = 300) -> float:
        """Wait until every door answers in full, each at the first try; returns when that was."""

        def well() -> bool:
            last = self._done()[-50:]
            full = all(line["outcome"] == "answer" and not line["degraded"] and line["tries"] == 1 for line in last)
            return full and len({line["door"] for line in last}) == self._doors

        wait_for(well, "every door answers in full", timeout_s)
        return time.monotonic()

    def full_again(self, timeout_s: float = 300) -> float:
        """Wait until an answer lacks a member, and then until none has for a while; returns when the last one did."""
        lacking = 0.0

        def is_full() -> bool:
            nonlocal lacking
            done = self._done()
            lacking = max((line["done"] for line in done if line.get("degraded")), default=0.0)
            return bool(lacking) and done[-1]["done"] > lacking + _QUIET_S

        wait_for(is_full, "an answer lacks a member, and then none does", timeout_s)
        return lacking

    def answers(self) -> list[str]:
        """What the answers so far are called."""
        return [line["id"] for line in self._done() if line["outcome"] == "answer"]

    def _done(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.endswith("}")]

    def end(self, revisions: Mapping[str, Weights]) -> None:
        """Let them end, and judge what they were answered."""
        count = self._process.communicate(timeout=60)[0]
        assert self._process.returncode == 0, "the clients have made a mistake of their own; see load.log"
        self.report = Report.read(self._log, revisions)
        assert len(self.report.requests) == int(count)
        took = f"half within {self.report.within_s(0.5):.3f} s, 99 % within {self.report.within_s(0.99):.3f} s"
        print(f"{self.report.answered:.4%} answered: {dict(self.report.counts)}; {took}")
