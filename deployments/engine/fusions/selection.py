"""Which members a fusion asks, and when: all at once, those that a gate or a bandit chooses, or a cascade's stages."""

# M members, B batch

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.deployments.engine.fusions.fuser import Fuser, gate_input
from quorate.deployments.engine.fusions.presence import OK, Mask, is_missing
from quorate.deployments.routing.reply import MemberReply
from quorate.fusion.learned.bandit import Bandit
from quorate.fusion.learned.cascade import Cascade
from quorate.fusion.learned.gate import Gate

Array = NDArray[Any]


class Selection:
    """Asks all members at once.

    Attributes:
        stage: number of the stage under way.
    """

    def __init__(self, fuser: Fuser, asked: Sequence[str]):
        self._fuser, self._asked = fuser, tuple(asked)
        self.stage = 0

    def first(self, rows: Mask) -> dict[str, Mask]:
        """(B,) rows to ask of each member."""
        return dict.fromkeys(self._asked, rows)

    def next(self, replies: Mapping[str, MemberReply], rows: Mask) -> dict[str, Mask]:
        """What to ask next, once all that was asked is in; nothing when that was all."""
        return {}

    def deadlines(self) -> list[float]:
        """When each stage but the last ends, as a share of the time there is."""
        return []


class GateSelection(Selection):
    """Asks the k best of each row, and in the place of those that fail the next best."""

    def __init__(self, fuser: Fuser, asked: Sequence[str], gate: Gate, columns: Mapping[str, Array]):
        super().__init__(fuser, asked)
        self._route = gate.route(gate_input(gate, columns))
        self._allowed = torch.tensor([name in self._asked for name in fuser.asked])
        self._selected: Mask | None = None

    def first(self, rows: Mask) -> dict[str, Mask]:
        self._selected = self._route.select(self._allowed).numpy() & rows
        return dict(zip(self._fuser.asked, self._selected, strict=True))

    def next(self, replies: Mapping[str, MemberReply], rows: Mask) -> dict[str, Mask]:
        assert self._selected is not None
        failed = is_missing(np.stack([np.asarray(replies[name].status) for name in self._fuser.asked]))
        up = self._allowed.numpy()[:, None] & ~failed
        if not failed.any() or not up.any():
            return {}
        more = self._route.select(torch.from_numpy(up)).numpy() & rows & ~self._selected
        self._selected = self._selected | more
        return dict(zip(self._fuser.asked, more, strict=True))


class CascadeSelection(Selection):
    """Asks each stage for the rows that no stage before was sure of."""

    def __init__(self, fuser: Fuser, asked: Sequence[str], cascade: Cascade):
        super().__init__(fuser, asked)
        self._cascade = cascade
        self._left: Mask | None = None

    def first(self, rows: Mask) -> dict[str, Mask]:
        self._left = rows.copy()
        return self._ask(self._left)

    def next(self, replies: Mapping[str, MemberReply], rows: Mask) -> dict[str, Mask]:
        assert self._left is not None
        outputs, states = self._fuser.gather(replies, len(rows))
        while self.stage < len(self._cascade.stages) - 1:
            if outputs is not None:
                done = self._cascade.decide(self.stage, self._fuser.read(outputs), torch.from_numpy(states == OK))
                self._left &= ~done.numpy()
            self.stage += 1
            asked = self._ask(self._left)
            if asked and self._left.any():
                return asked
        return {}

    def deadlines(self) -> list[float]:
        count = len(self._cascade.stages)
        return [(number + 1) / count for number in range(count - 1)]

    def _ask(self, rows: Mask) -> dict[str, Mask]:
        return {name: rows.copy() for name in self._cascade.stages[self.stage] if name in self._asked}


class BanditSelection(Selection):
    """Asks the first members, then in each row those that are chosen by what they say."""

    def __init__(self, fuser: Fuser, asked: Sequence[str], bandit: Bandit):
        super().__init__(fuser, asked)
        self._bandit = bandit

    def first(self, rows: Mask) -> dict[str, Mask]:
        return {name: rows.copy() for name in self._bandit.first if name in self._asked}

    def next(self, replies: Mapping[str, MemberReply], rows: Mask) -> dict[str, Mask]:
        if self.stage:
            return {}
        self.stage = 1
        outputs, states = self._fuser.gather(replies, len(rows))
        if outputs is None:  # nobody to choose by: everybody is asked
            return {name: rows.copy() for name in self._asked if name not in self._bandit.first}
        chosen = self._bandit.select(self._fuser.read(outputs), torch.from_numpy(states == OK)).numpy() & rows
        wanted = dict(zip(self._fuser.asked, chosen, strict=True))
        return {name: wanted[name] for name in self._asked if name not in self._bandit.first}

    def deadlines(self) -> list[float]:
        return [1 / 2]


def build_selection(fuser: Fuser, columns: Mapping[str, Array], asked: Sequence[str]) -> Selection:
    """How a fusion asks those of its members that are in ``asked``."""
    if isinstance(fuser.rule, Gate):
        return GateSelection(fuser, asked, fuser.rule, columns)
    if isinstance(fuser.rule, Cascade):
        return CascadeSelection(fuser, asked, fuser.rule)
    if isinstance(fuser.rule, Bandit):
        return BanditSelection(fuser, asked, fuser.rule)
    return Selection(fuser, asked)
