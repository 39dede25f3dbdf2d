"""One RPC on its way: the requests that came, its deadline, its answers, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from quorate.deployments.errors import BodySizeError, OverloadedError, RequestError
from quorate.deployments.security.access import Level
from quorate.deployments.server.compression import unpack
from quorate.deployments.server.connection_limits import ARRIVAL_S, MIN_BYTES_PER_S
from quorate.deployments.server.error_text import error_text
from quorate.deployments.server.grpc.headers import CODINGS, Headers
from quorate.deployments.server.grpc.messages import MessageReader, prefix_of
from quorate.deployments.server.service import Service
from quorate.deployments.telemetry.trace_context import TraceContext
from quorate.fusion.errors import QuorateError, QuorumError

_NO_HEADERS: Headers = []


class CallError(QuorateError):
    """Ends a call with a status of gRPC's own."""

    def __init__(self, code: str, sentence: str):
        super().__init__(code, sentence)
        self.grpc_code, self.sentence = code, sentence  # type: ignore[misc]

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class Method:
    """An RPC of the door.

    Attributes:
        answer: reads a call's requests and sends its answers; what it raises is the call's status.
        request: the messages' type.
        level: what callers must be admitted to.
        streams: whether more requests than one may come.
    """

    answer: Callable[[Call], Awaitable[None]]
    request: Any
    level: Level = Level.OPEN
    streams: bool = False


class Wire(Protocol):
    """What a call needs of the connection that it is a stream of.

    Attributes:
        loop: that it runs on.
        service: whose budget counts what messages hold.
    """

    loop: asyncio.AbstractEventLoop
    service: Service

    def most_message_bytes(self, size: int) -> int:
        """The longest message there may be; told how long the one is that asks."""

    async def send(self, stream: int, prefix: bytes, message: bytes) -> None:
        """Send a message; returns when it is on its way."""

    def finish(self, stream: int, all_here: bool, code: str, sentence: str = "", retry_after_s: float = 0.0) -> None:
        """Send the status."""

    def has_read(self, stream: int) -> None:
        """Let the client send as much again as has been read."""

    def forget(self, stream: int) -> None:
        """The call is over."""


class Call:
    """One stream of a connection.

    Attributes:
        given: the trace that it came with.
        answer_headers: to be sent before the answer, beside gRPC's own.
    """

    def __init__(
        self,
        wire: Wire,
        stream: int,
        method: Method,
        timeout_s: float | None,
        coding: bytes,
        given: TraceContext | None = None,
    ):
        """Args:
        given: the trace that it came with.
        """
        self.given, self.answer_headers = given, _NO_HEADERS
        self._wire, self._stream, self._method, self._coding = wire, stream, method, coding
        self._loop, self._service = wire.loop, wire.service
        self._hold = self._service.budget.hold()
        self._reader = MessageReader(self._hold, wire.most_message_bytes)
        self._task: asyncio.Task[None] | None = None
        self._readable: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._fed_bytes, self._since = 0, time.monotonic()
        self._all_here = self._runs = False
        self._open = True  # until its status is sent, or the client has gone
        self._due = None if timeout_s is None else self._loop.time() + timeout_s
        self._alarm = None if timeout_s is None else self._loop.call_later(timeout_s, self._expire)
        if method.streams:
            self._start()

    # What its connection tells it.

    def feed(self, data: bytes) -> bool:
        """Take in what came; whether more may come at once, or only after what is here has been read."""
        if self._failure is None and self._open:
            if not self._reader.partial:
                self._since, self._fed_bytes = time.monotonic(), 0
            self._fed_bytes += len(data)
            try:
                self._reader.feed(data)
                if self._reader.count > 1 and not self._method.streams:
                    raise RequestError("this RPC takes one message and got more; send each in a call of its own")
            except QuorateError as error:
                self.fail(error)
                return True
            self._wake()
        return not len(self._reader)

    def end(self) -> None:
        """The client has said all."""
        self._all_here = True
        if self._reader.partial and self._failure is None:
            self.fail(RequestError("the call ends within a message; send all of it"))
        self._wake()

    def abandon(self) -> None:
        """The client has gone."""
        self._open = False
        if not self._cancel():
            self._close()

    def fail(self, error: Exception) -> None:
        """End the call with an error, whatever it is doing."""
        if self._failure is not None or not self._open:
            return
        self._failure = error
        if not self._cancel():
            self._finish(error)

    def check_arrival(self, now: float) -> None:
        """Fail if a message does not come in fast enough."""
        waits = self._reader.partial or (self._task is None and not self._all_here)
        if waits and now - self._since > ARRIVAL_S + self._fed_bytes / MIN_BYTES_PER_S:
            self.fail(CallError("DEADLINE_EXCEEDED", f"the message did not arrive in {now - self._since:.0f} s"))

    # What its method asks of it.

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline; None without one."""
        return None if self._due is None else max(self._due - self._loop.time(), 0.0)

    async def requests(self) -> AsyncIterator[Any]:
        """The messages, as they come."""
        while True:
            while not len(self._reader):
                if self._all_here:
                    return
                self._readable = self._loop.create_future()
                await self._readable
            yield await self._parse()

    async def request(self) -> Any:
        """The one message of a call that has no more.

        Raises:
            RequestError: there is none, or it is something else.
        """
        if not len(self._reader):
            raise RequestError("the call has no message; send one")
        return await self._parse()

    async def send(self, message: Any) -> None:
        """Send an answer; returns when it is on its way."""
        data = message.SerializeToString()
        with self._service.budget.hold() as hold:
            hold.add(len(data))
            await self._wire.send(self._stream, prefix_of(data), data)

    async def _parse(self) -> Any:
        packed, message = self._reader.pop()
        if not len(self._reader):
            self._wire.has_read(self._stream)
        try:
            if not packed:
                return await self._parsed(message)
            with self._service.budget.hold() as hold:
                return await self._parsed(await self._unpack(message, hold.add))
        finally:
            self._reader.release(message)

    async def _parsed(self, message: bytes) -> Any:
        kind = self._method.request
        try:
            return await self._service.heavy.run(len(message), partial(kind.FromString, message))
        except DecodeError:
            raise RequestError(f"the message is no {kind.DESCRIPTOR.full_name}; send what its .proto says") from None

    async def _unpack(self, message: bytes, hold: Callable[[int], None]) -> bytes:
        unpacked, limit = 0, self._wire.most_message_bytes(len(message))

        def count(size: int) -> None:
            nonlocal unpacked
            unpacked += size
            if unpacked > limit:
                raise BodySizeError("unpacks to", limit)
            hold(size)

        return await unpack(message, self._coding, count, self._service.heavy)

    # Its way to its end.

    def _wake(self) -> None:
        """There is something new to read."""
        if self._task is None and self._failure is None and self._open and (len(self._reader) or self._all_here):
            self._start()
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._run())

    def _cancel(self) -> bool:
        """Whether the method is under way: then its end, soon, is the call's end."""
        if self._task is not None:
            self._task.cancel()
        return self._runs

    def _expire(self) -> None:
        self.fail(CallError("DEADLINE_EXCEEDED", "the client's deadline has passed"))

    async def _run(self) -> None:
        error: Exception | None = None
        self._runs = True
        try:
            await self._method.answer(self)
        except asyncio.CancelledError:
            error = CallError("CANCELLED", "the call was cancelled")
        except Exception as failure:
            error = failure
        try:
            self._finish(self._failure or error)
        finally:
            del error  # it keeps this frame, and all that it has seen of the call, until the next collection

    def _finish(self, error: Exception | None) -> None:
        if self._open:
            self._open = False
            if error is None:
                self._wire.finish(self._stream, self._all_here, "OK")
            else:
                code = error.grpc_code if isinstance(error, QuorateError) else "INTERNAL"
                wait_s = error.retry_after_s if isinstance(error, OverloadedError | QuorumError) else 0.0
                self._wire.finish(self._stream, self._all_here, code, error_text(error), wait_s)
        self._close()

    def _close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._hold.close()
        self._wire.forget(self._stream)


def coding_of(headers: dict[bytes, bytes]) -> bytes:
    """How the messages of a call are packed.

    Raises:
        CallError: in a way that is not read here.
    """
    coding = headers.get(b"grpc-encoding", b"identity")
    if coding not in CODINGS:
        raise CallError("UNIMPLEMENTED", f"messages are packed as {coding[:40]!r}; use gzip, deflate or none")
    return coding
