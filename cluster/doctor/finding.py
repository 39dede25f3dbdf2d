"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """A check and what came of it.

    Attributes:
        state: failed where ensembles cannot run so.
        fix: what to do; empty where nothing need be done.
    """

    check: str
    state: State
    found: str
    fix: str = ""
