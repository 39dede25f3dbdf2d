"""The rows of one node in a batch, and of a fusion: whom it asked for which rows, who is too late, what was fused."""

# M members, B rows

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.fusions.fuser import Fuser
from quorate.deployments.engine.fusions.presence import OK, Mask, States, discount, first_reason, refuse_shape, seen_by
from quorate.deployments.engine.fusions.selection import Selection
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.transport.row_state import RowState
from quorate.fusion.errors import QuorateError

Array = NDArray[Any]
_log = logging.getLogger(__name__)


class NodeRows:
    """What is known of one member's or inner fusion's rows.

    Attributes:
        wanted, sent, settled: (B,) rows asked for, on their way, and of known state.
        states: (B,) RowState, a row of the batch's table.
        values: (B, ...), None before the first usable row.
        coverage: (B,) share of weight behind each row of a fusion.
    """

    def __init__(self, states: States):
        self.wanted, self.sent, self.settled = (np.zeros(len(states), dtype=np.bool_) for _ in range(3))
        self.states = states
        self.values: Array | None = None
        self.coverage: Array | None = None

    def settle(self, rows: Array, states: Array | int, values: Array | None = None) -> None:
        """Say what became of rows, given by number; ``values`` has one row for each.

        Values of another shape than those that came before cannot stand beside them: these rows are lost.
        """
        self.settled[rows] = True
        self.states[rows] = states
        if values is None or not (self.states[rows] == OK).any():
            return
        if len(rows) == len(self.states):
            self.values = values
            return
        if self.values is None:
            self.values = np.zeros((len(self.states), *values.shape[1:]), values.dtype)
        if self.values.shape[1:] != values.shape[1:]:
            refused = self.states[rows]
            refuse_shape(refused)
            self.states[rows] = refused
            return
        self.values = self.values.astype(np.result_type(self.values, values), copy=False)
        self.values[rows] = values


class FusionRun:
    """An inner fusion, or the answer's own, whose rows are fused by the batch.

    Attributes:
        node: its own rows.
        opening: members are being asked at this moment.
        closed: nothing more will come.
    """

    def __init__(self, fuser: Fuser, selection: Selection, node: NodeRows, members: Mapping[str, NodeRows]):
        """
        Args:
            members: rows of all members of the graph.
        """
        self.fuser, self.selection, self.node = fuser, selection, node
        self.opening = self.closed = False
        self._members = members
        self._nothing = np.zeros(len(node.states), dtype=np.bool_)
        self._asked: dict[str, Mask] = {}
        self._too_late: dict[str, Mask] = {}

    def ask(self, name: str, rows: Mask) -> None:
        """Take note that these rows are asked of a member."""
        self._asked[name] = self._asked.get(name, self._nothing) | rows

    def asks(self, name: str) -> bool:
        """Whether it has asked a member."""
        return name in self._asked

    def waits(self) -> bool:
        """Whether rows that it asked for are still to come."""
        return any(self._open(name).any() for name in self._asked)

    def go_on(self) -> None:
        """Wait no longer for rows that are still to come."""
        for name in self._asked:
            self._too_late[name] = self._too_late.get(name, self._nothing) | self._open(name)

    def replies(self, fusable: Callable[[str], tuple[Array | None, States]]) -> dict[str, MemberReply]:
        """What it knows of its members now.

        Args:
            fusable: a member's values and their states as fusions read them.
        """
        replies = {}
        for name in self.fuser.asked:
            values, states = fusable(name)
            in_time = self._members[name].settled & ~self._too_late.get(name, self._nothing)
            seen = seen_by(states, in_time, self._asked.get(name, self._nothing))
            replies[name] = MemberReply(values, seen)
        return replies

    def fuse(
        self, replies: Mapping[str, MemberReply], columns: Mapping[str, Array], behind: Mapping[str, Array]
    ) -> None:
        """Fuse its rows, or say why they are missing.

        Args:
            columns: the request's inputs.
            behind: (B,) coverage of what members read, where it is not 1 throughout.
        """
        outputs, states = self.fuser.gather(replies, len(self._nothing))
        wanted = self.node.wanted
        holds = self.fuser.enough(states) & wanted
        short = np.flatnonzero(wanted & ~holds)
        self.node.settle(short, first_reason(states)[short])
        if outputs is not None and holds.any():
            self.node.coverage = np.ones(len(holds), dtype=np.float32)
            inputs = columns if self.fuser.reads_inputs else {}
            self._fuse_rows(outputs, states == OK, np.flatnonzero(holds), inputs, behind)

    def _fuse_rows(
        self, outputs: Array, present: Mask, rows: Array, inputs: Mapping[str, Array], behind: Mapping[str, Array]
    ) -> None:
        """Fuse these rows; when the rule refuses one, each half by itself."""
        try:
            mine = {name: column[rows] for name, column in inputs.items()}
            fused = self.fuser.fuse(outputs[:, rows], present[:, rows], mine)
        except QuorateError:
            if len(rows) == 1:
                self.node.settle(rows, RowState.ERROR)
            else:
                self._fuse_rows(outputs, present, rows[: len(rows) // 2], inputs, behind)
                self._fuse_rows(outputs, present, rows[len(rows) // 2 :], inputs, behind)
            return
        except Exception:  # whatever a rule raises, nobody may be left without an answer
            _log.exception("fusion '%s' failed", self.fuser.name)
            self.node.settle(rows, RowState.ERROR)
            return
        self.node.settle(rows, OK, fused.values)
        assert self.node.coverage is not None
        known = {name: coverage[rows] for name, coverage in behind.items()}
        self.node.coverage[rows] = fused.coverage * discount(self.fuser.asked, fused.contributions, known)

    def _open(self, name: str) -> Mask:
        rows: Mask = self._asked[name] & ~self._members[name].settled
        return rows & ~self._too_late[name] if name in self._too_late else rows
