"""Which of an ensemble's doors a request goes to, and where it goes next when that one gives no answer.

Nothing here reads or writes a socket: clients ask for a door, try it, and say how that ended. Times are monotonic.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit

from quorate.deployments.errors import RequestError, UnavailableError

# A door that gave no answer is left alone for so long, twice as long after each further failure.
REST_S, MAX_REST_S = 1.0, 5.0
# Where another door is left, one that does not take the connection is waited for no longer.
CONNECT_TIMEOUT_S, MIN_CONNECT_TIMEOUT_S = 2.0, 0.25
# A request whose connection is lost is sent once more: it may be what kills the door, and should not kill them all.
MAX_LOST = 2
# What a server said of its doors is asked for again after this long.
REFRESH_S = 30.0


class Failure(Enum):
    """How a door gave no answer."""

    UNREACHED = "no connection came about; nothing was sent"
    LOST = "the connection ended under the request"
    REFUSED = "it answered 503"
    LATE = "no answer in time, or a fault that another door would have too"


@dataclass(eq=False)
class Door:
    """One address.

    Attributes:
        failures: in a row.
        rests_until: asked before this only if no other door is left.
    """

    url: str
    failures: int = 0
    rests_until: float = 0.0

    @property
    def rest_s(self) -> float:
        return min(REST_S * 2.0 ** max(self.failures - 1, 0), MAX_REST_S)


def door_urls(url: str | Sequence[str]) -> tuple[str, ...]:
    """The URLs in a sequence, or in a string with commas between them.

    Raises:
        RequestError: one is no URL of an HTTP door, or there is none.
    """
    parts = url.split(",") if isinstance(url, str) else url
    found = tuple(dict.fromkeys(part.strip().rstrip("/") for part in parts))
    for one in found:
        address = urlsplit(one)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise RequestError(f"'{one}' is no URL of a door; give http://HOST:PORT")
    if not found:
        raise RequestError("no URL of a door is given; give http://HOST:PORT, several with commas between them")
    return found


class DoorList:
    """The doors that a client knows; threads may share it.

    Requests take turns at the doors that were given. Those that a server named are asked when none of these is well: a
    client behind a proxy or another network's address may not reach them.

    Attributes:
        latest: the door that answered last; None before the first answer.
    """

    latest: Door | None = None

    def __init__(self, urls: Sequence[str], turn: int | None = None):
        """Args:
        urls: of the doors that were given.
        turn: where the turns start; anywhere when None, so that clients that ask only once do not all ask the same.
        """
        self._given = tuple(Door(url) for url in urls)
        self._named: tuple[Door, ...] = ()
        self._turn = random.randrange(len(urls)) if turn is None else turn
        self._refresh_at = 0.0
        self._lock = threading.Lock()

    @property
    def urls(self) -> tuple[str, ...]:
        """All of them, those that were given first."""
        return tuple(door.url for door in (*self._given, *self._named))

    def choose(self, tried: Collection[Door], now: float, resting: bool = True) -> Door | None:
        """A door that is well, else the one that has rested longest; None when none is left.

        Args:
            tried: not to be asked.
            resting: whether one may be asked that is not well.
        """
        with self._lock:
            for doors in (self._given, self._named):
                for place in range(self._turn, self._turn + len(doors)):
                    door = doors[place % len(doors)]
                    if door in tried or door.rests_until > now:
                        continue
                    self._turn = place + 1
                    if door.failures:  # one request looks whether it is back, the others wait for what that finds
                        door.rests_until = now + door.rest_s
                    return door
            left = [door for door in (*self._given, *self._named) if door not in tried] if resting else []
            return min(left, key=lambda door: door.rests_until, default=None)

    def others(self, tried: Collection[Door]) -> int:
        """How many are left."""
        return sum(door not in tried for door in (*self._given, *self._named))

    def worked(self, door: Door) -> None:
        """A door answered."""
        self.latest = door
        if door.failures:
            with self._lock:
                door.failures, door.rests_until = 0, 0.0

    def failed(self, door: Door, now: float, rest_s: float = 0.0) -> None:
        """A door gave no answer.

        Args:
            rest_s: how long it wants to be left alone; 0 where it did not say.
        """
        with self._lock:
            door.failures += 1
            door.rests_until = now + (min(rest_s, MAX_REST_S) or door.rest_s)

    def refresh_due(self, now: float) -> bool:
        """Whether a server is to be asked for its doors; who hears so is to do it."""
        with self._lock:
            due = now >= self._refresh_at
            if due:
                self._refresh_at = now + REFRESH_S
        return due

    def learn(self, addresses: Iterable[str]) -> None:
        """Take up what a server said of its doors, as ``host:port``; they are reached as the given ones are."""
        scheme = urlsplit(self._given[0].url).scheme
        urls = [f"{scheme}://{address}" for address in addresses]
        with self._lock:
            known = {door.url: door for door in self._named}
            given = {door.url for door in self._given}
            self._named = tuple(known.get(url) or Door(url) for url in dict.fromkeys(urls) if url not in given)


@dataclass
class Tries:
    """One request on its way from door to door: each at most once, and one again only if it is the last.

    Args:
        expires: when nobody waits for an answer any more.
        deadline: no other door is tried after this.
        repeatable: whether it may be sent again where it may have been worked on already.
    """

    doors: DoorList
    expires: float
    deadline: float
    repeatable: bool = True
    account: list[str] = field(default_factory=list)
    _tried: list[Door] = field(default_factory=list)
    _lost: int = 0
    _last: Failure | None = None

    @property
    def again(self) -> bool:
        """Whether the server has been sent the request before."""
        return self._last in (Failure.LOST, Failure.REFUSED)

    def next(self, now: float) -> Door | None:
        """The door to try; None when there is none, or no time or reason to try it."""
        last = self._last
        if last is None:
            door = self.doors.choose((), now)
        elif now >= min(self.deadline, self.expires) or last is Failure.LATE:
            return None
        elif last is Failure.UNREACHED:
            door = self.doors.choose(self._tried, now)
        elif not self.repeatable:
            return None
        elif last is Failure.REFUSED:  # an ensemble that is busy at every door is not asked at every door each time
            door = self.doors.choose(self._tried, now, resting=False)
        else:
            door = None if self._lost >= MAX_LOST else self.doors.choose(self._tried, now) or self._tried[-1]
        if door is not None:
            self._tried.append(door)
        return door

    def connect_timeout_s(self, now: float) -> float:
        """How long to wait for a connection to the door that is being tried: others may be left."""
        others = self.doors.others(self._tried)
        if not others:
            return self.expires - now
        share_s = (min(self.deadline, self.expires) - now) / (1 + others)
        return min(max(share_s, MIN_CONNECT_TIMEOUT_S), CONNECT_TIMEOUT_S)

    def answered(self) -> None:
        """The door that was tried answered."""
        self.doors.worked(self._tried[-1])

    def failed(self, failure: Failure, words: str, now: float, rest_s: float = 0.0) -> None:
        """The door that was tried gave no answer.

        Args:
            words: what it did.
            rest_s: see ``DoorList.failed``.
        """
        door, self._last = self._tried[-1], failure
        self._lost += failure is Failure.LOST
        self.account.append(f"{door.url} ({words})")
        self.doors.failed(door, now, rest_s)

    @property
    def asked(self) -> str:
        """What each door did, where it was more than one."""
        return f"asked {', '.join(self.account)}" if len(self.account) > 1 else ""

    def error(self) -> UnavailableError:
        """For a request that no door answered."""
        return UnavailableError(f"no answer from {', '.join(self.account)}; is the ensemble deployed?")
