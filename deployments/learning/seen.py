"""Which rows have a label already, and which: two numbers each, in a few sorted arrays.

Ten million labels are 160 MB. Numbers are hashes of 64 bits: that two of ten million rows have the same is as likely as
one in 400,000.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
# What came last is a dict, and becomes a sorted array when it is so long.
RECENT = 1 << 16


class Seen:
    """Contents by key, of which the first that came stays."""

    def __init__(self) -> None:
        self._recent: dict[int, int] = {}
        self._runs: list[tuple[Numbers, Numbers]] = []  # each shorter than half of the one before

    def __len__(self) -> int:
        return len(self._recent) + sum(len(keys) for keys, _ in self._runs)

    def find(self, keys: Sequence[int]) -> list[int | None]:
        """What is known of each; None where nothing is."""
        found = [self._recent.get(key) for key in keys]
        if not self._runs:
            return found
        wanted = np.array(keys, np.int64)
        for known, contents in self._runs:
            at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            for place in np.flatnonzero(known[at] == wanted).tolist():
                found[place] = int(contents[at[place]])
        return found

    def add(self, key: int, content: int) -> None:
        """Take in what is not known yet."""
        self._recent.setdefault(key, content)
        if len(self._recent) >= RECENT:
            self._sort()

    def _sort(self) -> None:
        keys, contents = (np.fromiter(of, np.int64, len(self._recent)) for of in (self._recent, self._recent.values()))
        self._recent = {}
        self._runs.append(_sorted(keys, contents))
        while len(self._runs) > 1 and len(self._runs[-2][0]) <= 2 * len(self._runs[-1][0]):
            (first, one), (second, other) = self._runs[-2:]
            self._runs[-2:] = [_sorted(np.concatenate([first, second]), np.concatenate([one, other]))]


def _sorted(keys: Numbers, contents: Numbers) -> tuple[Numbers, Numbers]:
    order = np.argsort(keys, kind="stable")
    return keys[order], contents[order]
