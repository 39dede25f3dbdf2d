"""Who answered which row: one table of states, what an answer says about it, and the share of weight behind it."""

# N nodes (members and inner fusions), M members of one fusion, B rows

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.transport.row_state import RowState

Array = NDArray[Any]
Mask = NDArray[np.bool_]
States = NDArray[np.uint8]

# Looking a name up in an enum takes Python 3.11 longer than an operation on a small array.
OK, SHAPE, NONFINITE = int(RowState.OK), int(RowState.SHAPE), int(RowState.NONFINITE)
DEADLINE, UNASKED = int(RowState.DEADLINE), int(RowState.UNASKED)


class Account(NamedTuple):
    """What an answer says of its members.

    Attributes:
        used: those with at least one row.
        missing: reason by member, for those without at least one row that they were asked for.
        rows_missing: the rows, for those that are missing from some rows only.
    """

    used: tuple[str, ...]
    missing: dict[str, str]
    rows_missing: dict[str, tuple[int, ...]]


class Presence:
    """State by node and row.

    Attributes:
        nodes: N names.
        states: (N, B) RowState.
        complete: every node gave every row.
    """

    __slots__ = ("complete", "nodes", "states")

    def __init__(self, nodes: tuple[str, ...], states: States, complete: bool = False):
        """Args:
        complete: known already; looked at here where it is not.
        """
        self.nodes, self.states = nodes, states
        self.complete = complete or states.tobytes().count(OK) == states.size  # a third of the time of NumPy's own

    def cut(self, start: int, stop: int) -> Presence:
        """The same nodes at some rows."""
        if stop - start == self.states.shape[1]:
            return self
        return Presence(self.nodes, self.states[:, start:stop], self.complete)

    def first(self, count: int) -> States:
        """(count, B) states of the first nodes."""
        return self.states[:count]

    def alike(self) -> bool:
        """Whether all rows have the same members."""
        return self.complete or bool((self.states == self.states[:, :1]).all())

    def account(self) -> Account:
        """Who is used, who is missing and why."""
        if self.complete:  # as nearly always
            return Account(self.nodes, {}, {})
        used, missing, rows_missing = [], {}, {}
        for name, states in zip(self.nodes, self.states, strict=True):
            if (states == OK).any():
                used.append(name)
            absent = np.flatnonzero(is_missing(states))
            if not len(absent):
                continue
            missing[name] = RowState(int(states[absent[0]])).reason
            if len(absent) < len(states):
                rows_missing[name] = tuple(absent.tolist())
        return Account(tuple(used), missing, rows_missing)


def is_missing(states: States) -> Mask:
    """Where a row was asked for and not given."""
    missing: Mask = (states != OK) & (states != UNASKED)
    return missing


def first_reason(states: States) -> States:
    """(B,) the state of the first of N nodes that is missing from a row; UNASKED where none is.

    Args:
        states: (N, B).
    """
    missing = is_missing(states)
    reasons = np.take_along_axis(states, missing.argmax(axis=0)[None], axis=0)[0]
    return np.where(missing.any(axis=0), reasons, UNASKED).astype(np.uint8)


def enough(states: States, quorum: int, required: Sequence[int]) -> Mask:
    """(B,) whether quorum and required members hold in each row.

    A quorum is no more than the members that were asked, and at least one.

    Args:
        states: (M, B).
        required: rows of ``states`` that must be there.
    """
    present = states == OK
    asked = (states != UNASKED).sum(axis=0)
    holds: Mask = present.sum(axis=0) >= np.clip(asked, 1, quorum)
    for member in required:
        holds = holds & present[member]
    return holds


def refuse_shape(states: States) -> None:
    """Mark a node's rows that came, but in a shape that cannot be used."""
    states[states == OK] = SHAPE


def seen_by(states: States, settled: Mask, asked: Mask) -> States:
    """(B,) a member's states as one fusion sees them: rows that it did not ask for, or that came too late for it.

    Args:
        states: (B,) of the member.
        settled: (B,) where they are known in time.
        asked: (B,) rows that the fusion asked for.
    """
    seen: States = np.where(asked, np.where(settled, states, DEADLINE), UNASKED).astype(np.uint8)
    return seen


def discount(members: Sequence[str], contributions: Array, behind: Mapping[str, Array]) -> Array:
    """(B,) the mean coverage of what the members read, by how much each contributed to the row.

    Args:
        contributions: (M, B).
        behind: (B,) by member, where it is not 1 throughout.
    """
    if not behind:
        return np.ones(contributions.shape[1], dtype=np.float32)
    coverage = np.stack([behind.get(name, np.ones(contributions.shape[1], np.float32)) for name in members])
    total = contributions.sum(axis=0)
    safe = np.where(total > 0, total, 1.0)
    return np.where(total > 0, (contributions * coverage).sum(axis=0) / safe, 1.0).astype(np.float32)


def coverage_behind(
    member: str, sources: Callable[[str], Sequence[str]], fused: Callable[[str], Array | None]
) -> Array | None:
    """(B,) the lowest coverage among all that a member reads, directly or not; None when that was all there is.

    Args:
        sources: what a member reads; an empty list for anything that is not a member.
        fused: (B,) the coverage of an inner fusion; None for anything else, and where it is 1 throughout.
    """
    lowest: Array | None = None
    for source in sources(member):
        coverage = fused(source)
        if coverage is None:
            coverage = coverage_behind(source, sources, fused)
        if coverage is not None:
            lowest = coverage if lowest is None else np.minimum(lowest, coverage)
    return lowest
