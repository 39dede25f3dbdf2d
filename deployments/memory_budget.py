"""How many bytes the requests of one server may hold together, from their first byte until they are answered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from quorate.deployments.errors import OverloadedError

# Of the memory that this process may use: models, libraries and other processes need the rest.
SHARE_OF_MEMORY = 8
MIN_BUDGET_BYTES = 256 << 20
RETRY_AFTER_S = 1.0
# cgroup v2, then v1: as a container sees itself.
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_CGROUP_USED = (Path("/sys/fs/cgroup/memory.current"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"))
_CGROUP_STATES = (Path("/sys/fs/cgroup/memory.stat"), Path("/sys/fs/cgroup/memory/memory.stat"))


class MemoryBudget:
    """Counts bytes for whoever holds them. Use it on one thread.

    Attributes:
        limit_bytes: more than this is refused.
        held_bytes: now.
    """

    def __init__(self, limit_bytes: int | None = None):
        """Args:
        limit_bytes: a share of what this process may use when None.
        """
        self.limit_bytes = default_limit_bytes() if limit_bytes is None else limit_bytes
        self.held_bytes = 0

    def hold(self) -> MemoryHold:
        """An account for one request, empty at first."""
        return MemoryHold(self)

    def full(self) -> OverloadedError:
        """What is raised where there is no room."""
        return OverloadedError("the memory for requests", self.limit_bytes, RETRY_AFTER_S)


class MemoryHold:
    """What one owner holds; a context whose end gives all of it back.

    Attributes:
        held_bytes: of the budget.
    """

    __slots__ = ("_budget", "held_bytes")

    def __init__(self, budget: MemoryBudget):
        self._budget = budget
        self.held_bytes = 0

    def __enter__(self) -> MemoryHold:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, size: int) -> None:
        """Hold ``size`` bytes more.

        Raises:
            OverloadedError: they are not free; nothing is added.
        """
        if not self.has_added(size):
            raise self._budget.full()

    def has_added(self, size: int) -> bool:
        """The same, saying whether there was room instead of raising."""
        budget = self._budget
        if budget.held_bytes + size > budget.limit_bytes:
            return False
        budget.held_bytes += size
        self.held_bytes += size
        return True

    def add_passing(self, size: int, stays: int) -> None:
        """Hold ``stays`` bytes more, and ``size`` only while something is done at once; raises as ``add`` does."""
        budget = self._budget
        if budget.held_bytes + size > budget.limit_bytes:
            raise budget.full()
        budget.held_bytes += stays
        self.held_bytes += stays

    def give_back(self, size: int) -> None:
        """Hold ``size`` bytes less."""
        assert 0 <= size <= self.held_bytes
        self.held_bytes -= size
        self._budget.held_bytes -= size

    def close(self) -> None:
        """Give back all."""
        self.give_back(self.held_bytes)


def default_limit_bytes() -> int:
    """A share of the machine's memory, or of the container's where that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(min([machine, *_numbers(_CGROUP_LIMITS)]) // SHARE_OF_MEMORY, MIN_BUDGET_BYTES)


def free_memory_bytes() -> int:
    """What processes may take yet of the machine's memory, or of the container's where that is less.

    Files that are only kept in memory for whoever reads them again count as free, as Kubernetes counts them.
    """
    import psutil

    free = [psutil.virtual_memory().available]
    for limit, used, states in zip(_CGROUP_LIMITS, _CGROUP_USED, _CGROUP_STATES, strict=True):
        found = _numbers([limit, used])
        if len(found) == 2:
            free.append(found[0] - found[1] + _unread_bytes(states))
    return max(min(free), 0)


def _unread_bytes(states: Path) -> int:
    """Of files in a container's memory that nobody has read for a while."""
    try:
        lines = (line.split() for line in states.read_text().splitlines())
    except OSError:
        return 0
    said = {words[0]: int(words[1]) for words in lines if len(words) == 2}
    return said.get("total_inactive_file", said.get("inactive_file", 0))


def _numbers(paths: Sequence[Path]) -> list[int]:
    """What stands in those of the files that hold a number: version 2 of cgroups says "max" for no limit."""
    found = []
    for path in paths:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(int(text))
    return found
