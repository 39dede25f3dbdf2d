"""uvicorn's HTTP protocol with one write per answer, and with limits on what a client may make the server hold or wait.

Plain inference requests are answered here, without ASGI, where the application says how (``direct_inference``).

uvicorn writes an answer's head and its body one after the other: two system calls and two packets, and a client that is
woken twice. Joining them gave 12 % more requests a second at 64 clients (2 cores shared with others, 2026-11-23).

httptools has no limit of its own on heads, and uvicorn none on how long a request may take to arrive. Both stop reading
at an offer to go on in another protocol, which a server may ignore (RFC 9110, 7.8): Java's HttpClient offers HTTP/2.
"""

from __future__ import annotations

import asyncio
import http
import time
import weakref
from functools import partial
from typing import Any, NamedTuple

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from quorate.deployments.errors import OverloadedError
from quorate.deployments.memory_budget import MemoryHold
from quorate.deployments.server import connection_limits
from quorate.deployments.server.compression import Headers
from quorate.deployments.server.connection_limits import ARRIVAL_S, MIN_BYTES_PER_S, ConnectionLimits
from quorate.deployments.server.http.connection.joined_writes import JoinedWrites
from quorate.deployments.server.http.connection.refused_heads import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    answer_400,
    answer_404,
    answer_431,
)
from quorate.deployments.server.http.direct_inference import DirectInference, DirectRequest, PlainHead
from quorate.deployments.server.http.replies import error_reply
from quorate.deployments.server.http.streams import PIECE_BYTES, send_whole

# A chunk of one byte comes with five bytes around it; more than this is a client that hides something endless there.
FRAMING_PER_BODY_BYTE = 8
# Where the answer is under way already, as in a stream, the client may take its time before it sends more.
STREAM_S = 300.0
# What a client still sends after its answer, an error, is read this long, so that it comes to read the answer.
LINGER_S = 5.0
HEAD_END = b"\r\n\r\n"
_SCOPE = {"type": "http", "method": "POST", "http_version": "1.1"}
_NO_EVENT = asyncio.Event()  # nobody awaits a request that is there

_LIMITS: weakref.WeakKeyDictionary[ServerState, ConnectionLimits[JoinedHttpProtocol]] = weakref.WeakKeyDictionary()


class _Held(NamedTuple):
    """A plain request that the application has not been told of."""

    cycle: RequestResponseCycle
    head: PlainHead
    hold: MemoryHold


class _AnswerHead(NamedTuple):
    """An answer's head up to its length, and what it says."""

    default: Headers
    status: int
    headers: Headers
    text: bytes


class _PlainCycle:
    """What the connection keeps of a plain request that it has answered itself, or is about to."""

    keep_alive = True
    disconnected = response_started = response_complete = False
    message_event = _NO_EVENT
    on_response: Any = None


class JoinedHttpProtocol(HttpToolsProtocol):
    """Give it to uvicorn as ``http``."""

    _peer = ""
    _whole = False  # the last bytes ended a request
    _between = True  # what comes next begins one
    _since = 0.0  # when it was first seen that a request did not come in whole
    _fed_bytes = _body_bytes = 0  # of this request
    _alarm: asyncio.TimerHandle | None = None
    _waits = False  # for the rest of a request, since ``_since``
    _idle_since = 0.0  # when the last answer was out
    _first = b""  # the last bytes, where they began a request
    _reads_head = False
    _held: _Held | None = None  # a plain request whose body is to come
    _under_way: DirectRequest | None = None
    _answer_head: _AnswerHead | None = None  # of the last answer
    _offers = False  # this request's head offers another protocol, and is to be read again without that

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(JoinedWrites(transport, self.loop))  # type: ignore[arg-type]
        self._peer = self.client[0] if self.client else ""
        self._direct: DirectInference | None = getattr(self.app, "direct", None)
        self._limits = _LIMITS.setdefault(self.server_state, ConnectionLimits())
        if not self._limits.enter(self, self._peer):
            most = connection_limits.MAX_CONNECTIONS
            self._refuse(503, f"{most} connections are open already; close some, or retry later")
            return
        self._await_rest()

    @property
    def idle(self) -> bool:
        """Whether it could give way to another: open, and nothing has been asked that is not answered."""
        asked = self._fed_bytes or not (self.cycle is None or self.cycle.response_complete)
        return not asked and not self.transport.is_closing()

    def give_way(self) -> None:
        self._limits.leave(self, self._peer)
        self.connections.discard(self)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._limits.leave(self, self._peer)
        self._stop_alarm()
        if self._held is not None:
            self._held.hold.close()
            self._held = None
        if self._under_way is not None:
            self._under_way.cancel()
            self._under_way = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._direct is not None and self._between:
            if self._take_known(self._direct, data):
                return
            self._first = data
        self._fed_bytes += len(data)
        self._whole = False
        self._parse(data)
        self._first = b""
        if self._whole:  # as nearly always
            self._waits = False
        elif self._fed_bytes - (1 + FRAMING_PER_BODY_BYTE) * self._body_bytes > MAX_HEAD_BYTES:
            self._refuse(431, f"the request's head is over {MAX_HEAD_BYTES} bytes; send shorter headers")
        elif not self._waits and not self.transport.is_closing():
            self._await_rest()

    def _take_known(self, direct: DirectInference, data: bytes) -> bool:
        """Take a plain request that came in one piece behind a head that was read before, letter by letter the same."""
        if not (self.cycle is None or self.cycle.response_complete) or self.transport.is_closing():
            return False
        if self.pipeline or self.flow.write_paused:  # the application waits until its client reads
            return False
        head_bytes = data.find(HEAD_END) + len(HEAD_END)
        head = direct.known.get(data[:head_bytes])
        if head is None or len(data) != head_bytes + head.body_bytes:
            return False
        hold = direct.budget.hold()
        if not hold.has_added(head.body_bytes):
            return False
        cycle = _PlainCycle()
        taken = direct.take(head, data[head_bytes:], hold, partial(self._write_answer, cycle))
        if taken is None:
            hold.close()
            return False
        self._under_way, self._whole, self._waits = taken, True, False
        self.cycle = cycle  # type: ignore[assignment]
        return True

    def _whole_cycle(self, plain: _PlainCycle) -> RequestResponseCycle:
        """What an application needs, to answer instead."""
        self.cycle = RequestResponseCycle(
            scope=_SCOPE,  # type: ignore[arg-type]
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=_NO_EVENT,
            expect_100_continue=False,
            keep_alive=plain.keep_alive,
            on_response=self.on_response_complete,
        )
        return self.cycle

    def _learn(self, held: _Held) -> None:
        """Know the head of a request that came in one piece."""
        data, direct = self._first, self._direct
        head_bytes = data.find(HEAD_END) + len(HEAD_END)
        alone = len(data) == head_bytes + held.head.body_bytes
        if alone and held.cycle.keep_alive and direct is not None and held.cycle.scope["http_version"] == "1.1":
            direct.know(data[:head_bytes], held.head)

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            h2 = data.startswith(b"PRI * HTTP/2")
            self.send_400_response("HTTP/2 is for gRPC, at its own door" if h2 else "Invalid HTTP request received")
        except httptools.HttpParserUpgrade as stop:
            if self._offers:
                self._offers = False
                head = self._head_without_offer()
                self.parser = httptools.HttpRequestParser(self)
                self._parse(head + data[stop.args[0] :])

    def _head_without_offer(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_headers_complete(self) -> None:
        app = self.app
        if self.parser.should_upgrade():
            offered = [value.strip().lower() for name, value in self.headers if name == b"upgrade"]
            if b"websocket" in offered:
                self.app = answer_404
            elif offered:
                self._offers = True
                return
        if self._fed_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            head_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if head_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
                self.app, self.url = answer_431, b"/"  # httptools does not take every long one apart
        if self.app is app and self.parser.get_http_version() == "1.1":
            hosts = sum(name == b"host" for name, _ in self.headers)
            if hosts != 1:
                self.app = answer_400
        self._reads_head = self.app is app
        super().on_headers_complete()
        self._reads_head = False
        self.app = app

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._direct is not None and self._reads_head and self._hold_back(self._direct, cycle):
            return
        super()._start_asgi_task(cycle, app)

    def _hold_back(self, direct: DirectInference, cycle: RequestResponseCycle) -> bool:
        """Wait with a plain request for its body; whether it is one."""
        scope = cycle.scope
        head = None if self.flow.write_paused else direct.read_head(scope["method"], scope["path"], self.headers)
        if head is None:
            return False
        self._held = _Held(cycle, head, direct.budget.hold())
        return True

    def _release(self, held: _Held) -> None:
        """Have the application answer it, which counts what has come by itself."""
        self._held = None
        held.hold.close()
        super()._start_asgi_task(held.cycle, self.app)

    def on_message_begin(self) -> None:
        self._between = False
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)
        if self._held is not None and not self._held.hold.has_added(len(body)):
            self._release(self._held)

    def on_message_complete(self) -> None:
        if self._offers:
            return
        self._whole = self._between = True
        self._fed_bytes = self._body_bytes = 0
        super().on_message_complete()
        held, self._held = self._held, None
        if held is not None and self._direct is not None:
            write = partial(self._write_answer, held.cycle)
            self._under_way = self._direct.take(held.head, bytes(held.cycle.body), held.hold, write)
            if self._under_way is None:
                self._release(held)
            elif self._first:
                self._learn(held)

    def _write_answer(
        self, cycle: RequestResponseCycle | _PlainCycle, status: int, headers: Headers, body: bytes, hold: MemoryHold
    ) -> None:
        """What the application would send, in one piece; a long one as it does."""
        self._under_way = None
        if len(body) > PIECE_BYTES:
            whole = self._whole_cycle(cycle) if isinstance(cycle, _PlainCycle) else cycle
            super()._start_asgi_task(whole, partial(_send_long, status, headers, body, hold))
            return
        default, known = self.server_state.default_headers, self._answer_head
        if known is None or known.default is not default or known.headers is not headers or known.status != status:
            known = self._answer_head = _answer_head(default, status, headers)
        end = b"\r\n\r\n" if cycle.keep_alive else b"\r\nconnection: close\r\n\r\n"
        cycle.response_started = cycle.response_complete = True
        content = b"%b%d%b%b" % (known.text, len(body), end, body)
        self.transport.write_now(content)  # type: ignore[attr-defined]  # a JoinedWrites
        hold.close()
        cycle.on_response = _nobody  # else the connection would hold itself
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        self.transport.flush()  # type: ignore[attr-defined]  # a JoinedWrites
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            super()._start_asgi_task(cycle, app)
            return
        self._idle_since = time.monotonic()
        if self._alarm is None:
            self._set_alarm(self.timeout_keep_alive)

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, f"{msg.rstrip('.')}; send HTTP/1.1 as RFC 9112 has it")

    def _check(self) -> None:
        """Whether the client takes too long; if not, look again when it would. A timer for each request costs more."""
        self._alarm = None
        if self._waits:
            self._check_arrival()
        elif self.cycle is None or self.cycle.response_complete:
            left_s = self._idle_since + self.timeout_keep_alive - time.monotonic()
            if left_s > 0:
                self._set_alarm(left_s)
            else:
                self.timeout_keep_alive_handler()

    def _check_arrival(self) -> None:
        """Whether the request comes in fast enough."""
        cycle, now = self.cycle, time.monotonic()
        answered = cycle is not None and cycle.response_complete and self._fed_bytes > 0
        streams = cycle is not None and cycle.response_started
        patience_s = (STREAM_S if streams else ARRIVAL_S) + self._fed_bytes / MIN_BYTES_PER_S
        due = self._since + (LINGER_S if answered else patience_s)
        if self.flow.read_paused:  # it is we who do not read
            due = max(due, now + ARRIVAL_S)
        if now < due:
            self._set_alarm(due - now)
        elif self._fed_bytes and not answered:
            self._refuse(408, f"the request did not arrive within {due - self._since:.0f} s; send it faster")
        else:
            self.transport.close()

    def _await_rest(self) -> None:
        self._waits, self._since = True, time.monotonic()
        if self._alarm is None:  # else it is to ring no later
            self._set_alarm(LINGER_S)

    def _set_alarm(self, delay_s: float) -> None:
        self._alarm = self.loop.call_later(delay_s, self._check)

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _refuse(self, status: int, sentence: str) -> None:
        """Answer a request that the application never sees, and hang up."""
        self._stop_alarm()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = orjson.dumps({"error": sentence})
            line = f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n"
            head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(f"{line}{head}".encode() + body)
        self.transport.close()


def _answer_head(default: Headers, status: int, headers: Headers) -> _AnswerHead:
    content = [STATUS_LINE[status]]
    for name, value in (*default, *headers):
        content += [name, b": ", value, b"\r\n"]
    return _AnswerHead(default, status, headers, b"".join([*content, b"content-length: "]))


def _nobody() -> None:
    """Nobody is to be told of an answer."""


async def _send_long(
    status: int, headers: Headers, body: bytes, hold: MemoryHold, scope: Any, receive: Any, send: Any
) -> None:
    """An application whose answer is there already."""
    with hold:
        try:
            hold.add(len(body))  # until its client has read it
        except OverloadedError as error:
            status, headers, body = error_reply(error)  # type: ignore[assignment]
        await send_whole(send, status, [*headers, (b"content-length", str(len(body)).encode())], body)
