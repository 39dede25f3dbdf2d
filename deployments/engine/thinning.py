"""Under more load than members can take, ask fewer of them: who is worth least for its time is left out first.

Whether there is too much is seen in what becomes of requests: members that answered too late or took no more rows, or
rows that waited for half of their deadline before they were sent. Members that are late are left out before others; one
more each time that this goes on, and the last comes back first. Where it was too much at some rate of requests, it is
tried again at once when there are fewer, and otherwise after a while that doubles with each failure.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from quorate.deployments.engine.fan_out import Waiting
from quorate.deployments.routing.call import OnReply
from quorate.deployments.routing.member import BACK_S
from quorate.deployments.routing.terms import Terms
from quorate.deployments.transport.messages import Kind, Payload
from quorate.deployments.transport.row_state import RowState

_log = logging.getLogger(__name__)

# It is too much where of so many requests or more such a share was late, and calm where less than another share was;
# both are judged every so many seconds.
FEWEST, LATE_SHARE, CALM_SHARE, WINDOW_S = 20, 0.05, 0.01, 0.25
# How many requests a second there are is counted over so many of these: what has gathered ends in a single one.
RATE_WINDOWS = 8
# So much of its deadline a request may wait before it is sent.
QUEUED_SHARE = 0.5
# A member comes back after so many calm seconds, at fewer requests a second than this share of what was too many.
CALM_S, FEWER = 2.0, 0.8
# Where as many come as were too many, a member is tried again after this long, then after twice as long, and so on: to
# find out takes a second of late answers.
AGAIN_S, AGAIN_AT_MOST_S = 30.0, 300.0
# What has gathered is late whoever is left out: one that went so soon behind another comes back when it is calm.
GATHERED_S = 2.0

SHED = RowState.SHED.reason
_LATE = (RowState.DEADLINE.reason, SHED)


class NotAsked:
    """In the place of a member that is left out: it takes no call."""

    reason = SHED

    def ask(self, kind: Kind, payload: Payload, terms: Terms, done: OnReply) -> Waiting | None:
        """None: the batch goes on without it."""
        return None

    def back_s(self) -> float:
        """In how many seconds it may be asked again."""
        return BACK_S


NOT_ASKED = NotAsked()


@dataclass
class _Step:
    """A member that is left out.

    Attributes:
        at: since when (monotonic time).
        too_many: requests a second at which it was.
        again_at: when it is tried whatever the rate.
    """

    member: str
    at: float
    too_many: float
    again_at: float


class Thinning:
    """Of one revision; used on one event loop.

    Attributes:
        left_out: members that are not asked now, in the order in which they went.
    """

    def __init__(
        self,
        members: Iterable[str],
        keep: int,
        required: Collection[str],
        order: Callable[[Collection[str]], Sequence[str]],
        clock: Callable[[], float] = time.monotonic,
    ):
        """Args:
        members: that are fused.
        keep: the fewest that must be asked.
        required: never left out.
        order: of some members, who is left out before whom.
        """
        self.left_out: tuple[str, ...] = ()
        self._members, self._keep, self._required, self._order = tuple(members), keep, frozenset(required), order
        self._clock, self._steps = clock, list[_Step]()
        self._put_off: dict[str, float] = {}  # by member, how long it was put off when it was tried last
        self._calm_since = clock()
        self._windows: deque[tuple[float, int]] = deque(maxlen=RATE_WINDOWS)  # when each began, requests that ended
        self._begin(self._calm_since)

    def ended(self, missing: Mapping[str, str], late: bool) -> None:
        """A request has ended.

        Args:
            missing: why members are missing from its answer.
            late: it has none for want of time, or waited long before it was sent.
        """
        self._ended += 1
        members = [name for name, why in missing.items() if why in _LATE and name not in self.left_out]
        self._late += bool(members) or late
        self._late_members.update(members)
        now = self._clock()
        if now >= self._began + WINDOW_S:
            self._judge(now)

    def left_out_s(self) -> dict[str, float]:
        """Since how many seconds each member is left out; 0 of those that are asked."""
        now = self._clock()
        return dict.fromkeys(self._members, 0.0) | {step.member: now - step.at for step in self._steps}

    def _begin(self, now: float) -> None:
        self._began, self._ended, self._late = now, 0, 0
        self._late_members: Counter[str] = Counter()

    def _judge(self, now: float) -> None:
        late = self._late > LATE_SHARE * self._ended
        if late and self._ended < FEWEST:
            return  # wait for more of them
        self._windows.append((self._began, self._ended))
        rate = sum(ended for _, ended in self._windows) / (now - self._windows[0][0])
        if late:
            self._leave_one_out(now, rate)
        calm = self._late <= CALM_SHARE * self._ended
        if not calm:
            self._calm_since = now
        elif self._steps:
            self._take_back(now, rate)
        self._begin(now)

    def _leave_one_out(self, now: float, rate: float) -> None:
        there = [name for name in self._members if name not in self.left_out]
        may = [name for name in there if name not in self._required] if len(there) > self._keep else []
        late = [name for name in may if self._late_members[name] > LATE_SHARE * self._ended]
        first = next(iter(self._order(late or may)), None)
        if first is None:
            return
        wait_s = 0.0
        if not self._steps or now > self._steps[-1].at + GATHERED_S:
            wait_s = min(self._put_off.get(first, AGAIN_S / 2) * 2, AGAIN_AT_MOST_S)
            self._put_off[first] = wait_s
        self._steps.append(_Step(first, now, rate, now + wait_s))
        share = 100 * self._late / self._ended
        _log.warning("'%s' is asked no more: %.0f%% of %.0f requests a second were too late", first, share, rate)
        self._show()

    def _take_back(self, now: float, rate: float) -> None:
        step = self._steps[-1]
        fewer = rate < FEWER * step.too_many
        if not (now >= self._calm_since + CALM_S and (fewer or now >= step.again_at)):
            return
        self._steps.pop()
        self._calm_since = now
        if fewer:
            self._put_off.pop(step.member, None)
        _log.info("'%s' is asked again, at %.0f requests a second", step.member, rate)
        self._show()

    def _show(self) -> None:
        self.left_out = tuple(step.member for step in self._steps)


def worth_order(
    listed: Sequence[str], weights: Mapping[str, float], seconds: Callable[[str], float]
) -> Callable[[Collection[str]], Sequence[str]]:
    """Who is left out before whom: as listed, then by weight for the seconds of a forward pass, the least first."""

    def key(name: str) -> tuple[float, float, str]:
        spent = seconds(name)
        worth = weights[name] / spent if spent > 0 else math.inf
        return (listed.index(name) if name in listed else math.inf), worth, name

    return lambda names: sorted(names, key=key)
