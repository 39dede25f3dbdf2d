"""Load a running ensemble over HTTP and measure it, closed loop (N clients that wait) or open loop (a fixed rate).

Open-loop latency counts from the time a request was *scheduled*, sent or not: a server that stalls is charged for every
request that should have been sent meanwhile (G. Tene, "How NOT to Measure Latency", 2015, calls leaving them out
coordinated omission).
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson
import uvloop
from numpy.typing import NDArray

from quorate.deployments.client.client import Client
from quorate.deployments.client.failover import door_urls
from quorate.deployments.client.load.given_bodies import given_bodies
from quorate.deployments.client.load.load_connection import LoadBody, LoadConnection, LoadTarget, load_target
from quorate.deployments.client.load.random_inputs import random_inputs
from quorate.deployments.display import Displayed, Table
from quorate.deployments.errors import RequestError, UnavailableError
from quorate.deployments.security.credentials import Credentials

# More than one, so that nothing on the way gets by with remembering the last.
NUM_PAYLOADS = 16
RECONNECT_S = 0.02
_DEGRADED = re.compile(rb'"degraded"\s*:\s*true')


@dataclass(frozen=True)
class Load:
    """What to send.

    Attributes:
        clients: connections. A closed-loop client sends its next request when it has its answer; an open-loop request
            that finds no connection free waits for one, and its wait counts.
        rate: requests scheduled per second, evenly; None for the closed loop.
        duration_s: how long to measure, after ``warm_up_s`` that is not measured.
        rows: batch size of every request.
        timeout_s: a request without an answer for this long is an error.
    """

    clients: int = 8
    rate: float | None = None
    duration_s: float = 10.0
    warm_up_s: float = 1.0
    rows: int = 1
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        for name, value, positive in (
            ("clients", self.clients, True),
            ("rate", self.rate, True),
            ("duration_s", self.duration_s, True),
            ("warm_up_s", self.warm_up_s, False),
            ("rows", self.rows, True),
            ("timeout_s", self.timeout_s, True),
        ):
            if value is not None and not (np.isfinite(value) and (value > 0 or (value == 0 and not positive))):
                raise RequestError(f"bench: {name} is {value}; give a number {'above' if positive else 'from'} 0")


@dataclass(frozen=True, repr=False)
class BenchResult(Displayed):
    """What came back. Percentiles are over answered requests, in milliseconds.

    Attributes:
        requests: measured requests, answered or not.
        errors: those that ended in another status than 200, in a lost connection or in no answer.
        degraded: answers that some members are missing from.
        rate: answers per second.
        first_error: what the first error said; empty without one.
    """

    clients: int
    offered_rate: float | None
    duration_s: float
    requests: int
    errors: int
    degraded: int
    rate: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    first_error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return asdict(self)

    def tables(self) -> Sequence[Table]:
        offered = "" if self.offered_rate is None else f" of {self.offered_rate:g}/s offered"
        lines = [
            f"{self.rate:.0f} answers/s{offered} to {self.clients} clients in {self.duration_s:.1f} s",
            f"ms: p50 {self.p50_ms:.2f}  p90 {self.p90_ms:.2f}  p99 {self.p99_ms:.2f}  max {self.max_ms:.2f}",
            f"{self.requests} requests, {self.errors} errors, {self.degraded} degraded",
        ]
        return [Table(lines=[*lines, self.first_error] if self.first_error else lines)]


def bench(
    url: str | Sequence[str], model: str, load: Load, seed: int = 0, credentials: Credentials | None = None,
    rows: Mapping[str, NDArray[Any]] | None = None,
) -> BenchResult:  # fmt: skip
    """Ask a running model with random valid input, as its own metadata describes it, or with rows that are given.

    Args:
        url: of the server, such as ``http://127.0.0.1:8000``; or of several, which share the connections.
        model: the ensemble, or a member of it.
        credentials: what the server wants to see.
        rows: (R, ...) by input; ``load.rows`` of them are sent at a time, in turn.

    Raises:
        UnavailableError: nothing answers at ``url``, or not one request was answered.
        RemoteError: the server does not know the model.
    """
    if rows is not None:
        bodies: Sequence[LoadBody] = given_bodies(rows, load.rows)
    else:
        with Client(url, credentials=credentials) as client:
            inputs = client.metadata(model)["inputs"]
        rng = np.random.default_rng(seed)
        bodies = [orjson.dumps({"inputs": random_inputs(inputs, load.rows, rng)}) for _ in range(NUM_PAYLOADS)]
    return send_load(url, f"/v2/models/{quote(model, safe='')}/infer", bodies, load, credentials)


def send_load(
    url: str | Sequence[str], path: str, bodies: Sequence[LoadBody], load: Load, credentials: Credentials | None = None
) -> BenchResult:
    """POST bodies in turn to ``path``; raises as ``bench`` does."""
    shown = credentials or Credentials()
    return uvloop.run(_Run([load_target(one, path, bodies, shown) for one in door_urls(url)], load).measure())


class _Run:
    """One measurement: callbacks only, no task per request, so that the clients leave the cores to the server."""

    def __init__(self, places: Sequence[LoadTarget], load: Load):
        self._places, self._load = deque(places), load
        self._due: deque[float] = deque()  # open loop: scheduled times that no connection has taken yet
        self._idle: deque[LoadConnection] = deque()  # the one that has waited longest is next, so that all take turns
        self._connections: set[LoadConnection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._next = 0
        self._under_way = 0
        self._arriving = load.rate is not None  # requests of the open loop are still to come
        self._latencies: list[float] = []
        self._errors = 0
        self._degraded = 0
        self._first_error = ""

    async def measure(self) -> BenchResult:
        self._loop = asyncio.get_running_loop()
        try:
            for _ in range(self._load.clients):
                await self._connect()
            await self._run()
        except OSError as error:
            raise UnavailableError(f"no connection to {self._names()} ({error}); is the ensemble deployed?") from None
        finally:
            await self._close()
        return self._result()

    async def _run(self) -> None:
        load = self._load
        start = time.perf_counter()
        self._from = start + load.warm_up_s
        self._until = self._ended = self._from + load.duration_s
        pace = threading.Thread(target=self._pace, args=(start,), daemon=True)
        if load.rate is None:
            while self._idle:
                self._send(self._idle.popleft(), time.perf_counter())
        else:
            pace.start()
        await self._watch()
        if load.rate is not None:
            pace.join()

    async def _close(self) -> None:
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        connections, self._connections = self._connections, set()
        for connection in connections:
            connection.close()
        await asyncio.sleep(0.01)  # transports say goodbye on the loop's next turns

    def _pace(self, start: float) -> None:
        """Hand the loop each request at its time. A thread, since an event loop's timers are whole milliseconds."""
        assert self._load.rate is not None
        number = 0
        while (at := start + number / self._load.rate) < self._until:
            time.sleep(max(at - time.perf_counter(), 0.0))
            self._loop.call_soon_threadsafe(self._arrive, at)
            number += 1
        self._loop.call_soon_threadsafe(self._end_arrivals)

    async def _watch(self) -> None:
        """Wait for the end and for what is under way then; cut what has no answer in time."""
        while time.perf_counter() < self._until or self._arriving or self._under_way or self._due:
            await asyncio.sleep(0.01)
            now = time.perf_counter()
            for connection in list(self._connections):
                if connection.busy and now - connection.sent > self._load.timeout_s:
                    connection.close()
            while self._due and now - self._due[0] > self._load.timeout_s:
                self._count_error(self._due.popleft(), f"no connection was free for {self._load.timeout_s:g} s")

    def _arrive(self, at: float) -> None:
        if self._idle:
            self._send(self._idle.popleft(), at)
        else:
            self._due.append(at)

    def _end_arrivals(self) -> None:
        self._arriving = False

    def _send(self, connection: LoadConnection, scheduled: float) -> None:
        self._under_way += 1
        self._next += 1
        connection.send(connection.requests[self._next % len(connection.requests)], scheduled)

    def _take(self, connection: LoadConnection, status: int, body: bytes) -> None:
        """A request ended: count it, and give the connection its next."""
        now = time.perf_counter()
        self._under_way -= 1
        if status == 200:
            if connection.scheduled >= self._from:
                self._latencies.append(now - connection.scheduled)
                self._degraded += _DEGRADED.search(body) is not None
                self._ended = max(self._ended, now)
        else:
            self._count_error(connection.scheduled, f"{status} {body[:500].decode(errors='replace')}".strip())
        if connection.open:
            self._free(connection)
        else:
            self._lose(connection)

    def _lose(self, connection: LoadConnection) -> None:
        """Put a new connection in the place of a lost one, once."""
        if connection in self._connections:
            self._connections.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            task = self._loop.create_task(self._connect_again())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _count_error(self, scheduled: float, text: str) -> None:
        if scheduled >= self._from:
            self._errors += 1
            self._first_error = self._first_error or text

    def _free(self, connection: LoadConnection) -> None:
        if self._due:
            self._send(connection, self._due.popleft())
        elif self._load.rate is None and (now := time.perf_counter()) < self._until:
            self._send(connection, now)
        else:
            self._idle.append(connection)

    async def _connect(self) -> None:
        """Connect to the next server in turn, or to the one after it where that is not there."""
        for _ in range(len(self._places) - 1):
            try:
                return await self._connect_to_next()
            except OSError:
                continue
        return await self._connect_to_next()

    async def _connect_to_next(self) -> None:
        place = self._places[0]
        self._places.rotate(-1)
        made: tuple[Any, LoadConnection] = await self._loop.create_connection(
            lambda: LoadConnection(place.requests, self._take, self._lose), place.host, place.port, ssl=place.context
        )
        self._connections.add(made[1])
        self._idle.append(made[1])

    def _names(self) -> str:
        return ", ".join(f"{place.host}:{place.port}" for place in self._places)

    async def _connect_again(self) -> None:
        while time.perf_counter() < self._until or self._arriving or self._due:
            await asyncio.sleep(RECONNECT_S)
            try:
                await self._connect()
            except OSError as error:
                if self._load.rate is None:  # in the open loop what was due meanwhile tells
                    self._count_error(time.perf_counter(), f"no connection ({error})")
                continue
            self._free(self._idle.pop())
            return

    def _result(self) -> BenchResult:
        load = self._load
        if not self._latencies:
            raise UnavailableError(
                f"none of {self._errors} requests was answered (first: {self._first_error}); see quorate status"
            )
        p50, p90, p99 = np.percentile(self._latencies, [50, 90, 99]) * 1e3
        return BenchResult(
            clients=load.clients,
            offered_rate=load.rate,
            duration_s=load.duration_s,
            requests=len(self._latencies) + self._errors,
            errors=self._errors,
            degraded=self._degraded,
            rate=len(self._latencies) / (self._ended - self._from),
            p50_ms=float(p50),
            p90_ms=float(p90),
            p99_ms=float(p99),
            max_ms=max(self._latencies) * 1e3,
            first_error=self._first_error,
        )
