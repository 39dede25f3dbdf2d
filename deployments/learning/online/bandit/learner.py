"""One output's bandit as it learns from labels that go on coming, beside the one that is live."""

# N rows, K sets, D numbers of a context

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quorate.deployments.learning.online.bandit.deciding import ASK_ALL, PolicyPublisher, PolicyWish
from quorate.deployments.learning.online.bandit.models import ArmModels
from quorate.deployments.learning.online.bandit.rows import ToldRows
from quorate.deployments.learning.online.bandit.standing import PolicyStanding
from quorate.deployments.learning.online.state import TOLD
from quorate.fusion.learned.bandit import Bandit

# Models are solved anew after so many labels: of contexts of many classes that takes its time.
_EVERY, _EVERY_OF_WIDE, _WIDE = 64, 1024, 128


class BanditLearner:
    """Learns in the order in which labels are taken.

    Attributes:
        labels: how many it has learned from.
        publisher: says what is to go live.
    """

    def __init__(
        self, output: str, pinned: Bandit, live: Bandit | None = None, since_us: int = -1,
        changes: Sequence[dict[str, Any]] = (), at_once: bool = True,
    ):  # fmt: skip
        """Args:
        pinned: what somebody deployed, and ``live`` what is live, where it is another.
        since_us: when what is live became so.
        changes: what went live by itself since the pinned one was deployed, as ``changes`` are.
        at_once: nobody makes policies live: it is told when they would be.
        """
        self.output, self.labels, self._at_once = output, 0, at_once
        published = sum(not one["taken_back"] for one in changes)
        self.publisher = PolicyPublisher(pinned, live, since_us, published)
        least = min(range(len(pinned.arms)), key=lambda arm: len(pinned.arms[arm]))
        self._models = ArmModels(pinned.theta.numpy(), least)
        self._standing = PolicyStanding()
        self.changes: list[dict[str, Any]] = list(changes)
        self._every = _EVERY if pinned.theta.shape[1] <= _WIDE else _EVERY_OF_WIDE

    def take(self, rows: ToldRows) -> None:
        """Learn from rows."""
        for start in range(0, len(rows), self._every):
            some = rows.part(slice(start, start + self._every))
            promised = self._models.promises(some.context)
            self._models.learn(some)
            self._standing.add(some, promised, self.publisher)
            self.publisher.look(some, promised, self._models.theta)
            self.labels += len(some)
            if self._at_once and self.publisher.wish is not None:
                self.went_live(self.publisher.wish, int(some.came_us[-1]))

    @property
    def wish(self) -> PolicyWish | None:
        """What is to go live."""
        return self.publisher.wish

    def told_of(self, wish: PolicyWish) -> dict[str, Any]:
        """What is told of a change, in JSON's types."""
        return {
            "labels": self.labels, "taken_back": wish.back, "gain": round(wish.gain, 6), "decided_by": wish.decided_by,
            "asks_all": wish.rule.price == ASK_ALL, "at_once": wish.at_once,
        }  # fmt: skip

    def went_live(self, wish: PolicyWish, time_us: int) -> dict[str, Any]:
        """It is, for answers from a time on; returns what is told of it, with ``time_us``."""
        change = {**self.told_of(wish), "time_us": time_us}
        self.publisher.went_live(wish.rule, wish.back, time_us)
        self._standing.begin()
        self.changes.append(change)
        return change

    def report(self) -> dict[str, Any]:
        """In JSON's types: as ``Learner.report``, without weights, and ``policy``: means over the latest labels, what
        the live policy loses to asking everybody and the learned one earns over it, and both through time.
        """
        live = self.publisher.live
        policy = {
            "first": list(live.first), "sets": [list(arm) for arm in live.arms], "explore": live.explore,
            "max_loss": live.max_loss, "confidence": live.confidence, "price": self.publisher.price,
            "asks_all": live.price == ASK_ALL, "members": len(live.members), **self._standing.means(),
            **self._standing.paired(), "points": self._standing.points(),
        }  # fmt: skip
        return {
            "output": self.output, "members": list(live.members), "loss": "accuracy", "standings": [], "weights": [],
            "changes": self.changes[-TOLD:], "labels": self.labels, "live": None, "live_weights": None,
            "policy": policy,
        }  # fmt: skip


def joined(parts: Sequence[ToldRows]) -> ToldRows | None:
    """All that is told, in the order in which labels came; None of nothing."""
    some = [part for part in parts if len(part)]
    return ToldRows.joined(some) if some else None
