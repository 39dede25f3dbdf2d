"""One client's HTTP/2 connection on the event loop: streams become calls, within limits on what a client may do.

grpc.aio takes calls in one after the other, each in two turns of the event loop, and a server whose turns take long
falls behind for good; here all that has come in is read in the turn in which it is seen (benchmarks/starved_doors.py).
The frames and their states are h2's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from typing import Any, cast

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    PingAckReceived,
    PingReceived,
    PriorityUpdated,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    UnknownFrameReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from hyperframe.frame import GoAwayFrame

from quorate.deployments.server.connection_limits import MIN_BYTES_PER_S, UNREAD_S
from quorate.deployments.server.grpc.access import authorization
from quorate.deployments.server.grpc.call import Call, CallError, Method, coding_of
from quorate.deployments.server.grpc.headers import ANSWER, Headers, parse_timeout_s, trailers
from quorate.deployments.server.grpc.http2 import (
    CONNECTION_WINDOW_BYTES,
    FRAME_BYTES,
    MAX_METADATA_BYTES,
    ClientGoesAway,
    LateData,
    ServerH2,
)
from quorate.deployments.server.grpc.lobby import Lobby
from quorate.deployments.server.tracing import context_of
from quorate.fusion.errors import QuorateError

GREETING_S, KEEPALIVE_S = 10.0, 30.0
# A prefix goes with a short message in one frame, and has one of its own where that saves a copy of a long one.
JOINED_BYTES = 16 << 10
# Sent before looking whether the client keeps up, and what may wait for it: answers to its pings, mostly.
WRITE_BYTES, MAX_UNSENT_BYTES = 64 << 10, 4 << 20
# Frames that cost us more than the client: calls given up, pings, settings, empty data. So many at once, and a second.
CONTROL_BURST, CONTROL_PER_S = 1000, 100.0
_LAST_STREAM = 2**31 - 1


class GrpcConnection(asyncio.BufferedProtocol):
    """Belongs to a door, which looks at it every second or so. To its calls it is their wire."""

    def __init__(self, lobby: Lobby[GrpcConnection], loop: asyncio.AbstractEventLoop):
        self._lobby, self.service, self.loop = lobby, lobby.service, loop
        self.most_message_bytes = lobby.most_message_bytes
        self._h2 = ServerH2()
        self._calls: dict[int, Call] = {}
        self._answered: set[int] = set()  # streams whose headers are sent
        self._unread: dict[int, int] = {}  # bytes of a stream that its client may send again once they are read
        self._greeted = self._pinged = self._refuses = self._drains = self._hung_up = False
        self._flushing: asyncio.Handle | None = None
        self._progress: asyncio.Future[None] | None = None  # the client can take more
        self._due: dict[int, float] = {}  # when it must have taken more of an answer, by stream
        self._paused_since: float | None = None  # nothing more goes into the socket
        self._since = self._heard = time.monotonic()
        self._controls, self._counted = float(CONTROL_BURST), self._heard
        self._unframed_bytes = 0
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            RequestReceived: self._on_request,
            DataReceived: self._on_data,
            StreamEnded: self._on_end,
            StreamReset: self._on_reset,
            WindowUpdated: self._on_window,
            RemoteSettingsChanged: self._on_settings,
            PingReceived: self._on_control,
            PriorityUpdated: self._on_control,
            UnknownFrameReceived: self._on_control,
            PingAckReceived: self._on_pong,
            LateData: self._on_late_data,
            ClientGoesAway: self._on_go_away,
        }

    @property
    def idle(self) -> bool:
        """Whether it could give way to another: open, and no call is under way."""
        return not self._calls and not self._closes

    @property
    def _closes(self) -> bool:
        """Whether there is nothing more to say; of its own a TLS transport knows that only when it has closed."""
        return self._hung_up or self._transport.is_closing()

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else ""
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if not self._lobby.enter(self, self._peer) or (tls is not None and tls.selected_alpn_protocol() != "h2"):
            self._transport.close()
            return
        h2 = self._h2
        h2.initiate_connection()
        h2.increment_flow_control_window(CONNECTION_WINDOW_BYTES - h2.inbound_flow_control_window)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lobby.leave(self, self._peer)
        for call in list(self._calls.values()):
            call.abandon()
        self._wake()
        if self._flushing is not None:
            self._flushing.cancel()

    def get_buffer(self, _sizehint: int) -> bytearray:
        return self._lobby.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._closes:
            return
        self._heard = time.monotonic()
        try:
            events = self._h2.receive_data(memoryview(self._lobby.read_buffer)[:nbytes])
        except ProtocolError:
            self.hang_up()
            return
        self._unframed_bytes = 0 if events else self._unframed_bytes + nbytes
        for event in events:
            handler = self._handlers.get(type(event))
            if handler is not None:
                handler(event)
        # h2 looks at a frame's length when all of it is here, and counts frames of a header and not their bytes.
        if self._controls < 0 or self._unframed_bytes > FRAME_BYTES + MAX_METADATA_BYTES:
            self._h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            self.hang_up()
        elif self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._transport.abort()
        else:
            self._flush_soon()

    def pause_writing(self) -> None:
        self._paused_since = time.monotonic()

    def resume_writing(self) -> None:
        self._paused_since = None
        self._wake()

    # What its door tells it.

    def give_way(self) -> None:
        """Close, for another one."""
        self._lobby.give_place(self, self._peer)
        self._h2.close_connection()
        self.hang_up()

    def check(self, now: float) -> None:
        """Look whether the client is there, and in time."""
        silent_s = now - self._heard
        stuck = self._paused_since is not None and now - self._paused_since > UNREAD_S
        greets = not self._greeted and now - self._since > GREETING_S
        if greets or stuck or silent_s > 2 * KEEPALIVE_S:
            self._transport.abort()
        if self._closes:  # perhaps for long, where the client does not read what there still is
            return
        for call in list(self._calls.values()):
            call.check_arrival(now)
        for stream in [stream for stream, due in self._due.items() if now > due]:
            self._calls[stream].fail(CallError("DEADLINE_EXCEEDED", "the answer was not read in time"))
        if silent_s > KEEPALIVE_S and self._greeted and not self._pinged:
            self._ping()

    def drain(self) -> None:
        """Ask the client to go elsewhere with new calls; those that are here are answered."""
        self._drains = True
        if self._closes:
            return
        if self._greeted:
            self._go_away(_LAST_STREAM)
            self._ping()  # what comes before its answer was sent before the client knew
        else:
            self._transport.close()

    def stop_calls(self) -> None:
        """End the calls under way; in the next turns of the loop they say so."""
        for call in list(self._calls.values()):
            call.fail(CallError("UNAVAILABLE", "the server stops; ask another one, or retry"))

    def hang_up(self) -> None:
        """Send what there is to say, and close."""
        self._flush()
        self._hung_up = True
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # What its calls ask of it.

    async def send(self, stream: int, prefix: bytes, message: bytes) -> None:
        """Send a piece of a call's answer; returns when all of it is given to the socket's buffer."""
        if self._closes:
            raise asyncio.CancelledError
        if stream not in self._answered:
            self._answered.add(stream)
            self._h2.send_headers(stream, self._answer_headers(stream))
        if len(message) <= JOINED_BYTES:
            await self._send(stream, prefix + message)
        else:
            await self._send(stream, prefix)
            await self._send(stream, memoryview(message))
        self._flush_soon()

    def _answer_headers(self, stream: int) -> Headers:
        call = self._calls.get(stream)
        return [*ANSWER, *call.answer_headers] if call is not None and call.answer_headers else ANSWER

    async def _send(self, stream: int, data: bytes | memoryview) -> None:
        h2, at, since = self._h2, 0, time.monotonic()
        while at < len(data):
            window = 0 if self._paused_since is not None else h2.local_flow_control_window(stream)
            if window <= 0:
                await self._can_send_more(stream, since + UNREAD_S + at / MIN_BYTES_PER_S)
                continue
            end = min(at + window, at + WRITE_BYTES, len(data))
            for start in range(at, end, h2.max_outbound_frame_size):
                h2.send_data(stream, data[start : min(start + h2.max_outbound_frame_size, end)])
            at = end
            if at < len(data):
                self._flush()

    def finish(self, stream: int, all_here: bool, code: str, sentence: str = "", retry_after_s: float = 0.0) -> None:
        """Send a call's status.

        Args:
            all_here: the client has said all; else it is told to stop.
            retry_after_s: see ``trailers``.
        """
        end = trailers(code, sentence, retry_after_s)
        self._end_stream(stream, end if stream in self._answered else [*self._answer_headers(stream), *end], all_here)

    def has_read(self, stream: int) -> None:
        """The client may send as much again as has been read."""
        size = self._unread.pop(stream, 0)
        if size:
            self._h2.acknowledge_received_data(size, stream)
            self._flush_soon()

    def forget(self, stream: int) -> None:
        """A call is over."""
        if self._calls.pop(stream, None) is not None:
            self._lobby.calls -= 1
        self._answered.discard(stream)
        if not self._closes:
            self.has_read(stream)

    # What the client says.

    def _on_request(self, event: RequestReceived) -> None:
        stream = event.stream_id
        if self._refuses:
            with contextlib.suppress(ProtocolError):  # the client has given it up already
                self._h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
            return
        headers = dict(event.headers)
        kind = headers.get(b"content-type", b"")
        if headers.get(b":method") != b"POST" or not kind.startswith(b"application/grpc"):
            self._end_stream(stream, [(b":status", b"415")], event.stream_ended is not None)
            return
        try:
            method = self._admit(headers.get(b":path", b""), event.headers)
            timeout = headers.get(b"grpc-timeout")
            timeout_s = None if timeout is None else parse_timeout_s(timeout)
            given = context_of(event.headers) if b"traceparent" in headers else None
            self._calls[stream] = Call(self, stream, method, timeout_s, coding_of(headers), given)
            self._lobby.calls += 1
        except QuorateError as error:
            self.finish(stream, event.stream_ended is not None, error.grpc_code, str(error))

    def _admit(self, path: bytes, headers: Headers) -> Method:
        method = self._lobby.methods.get(path)
        if method is None:
            raise CallError("UNIMPLEMENTED", "there is no such RPC here; reflection lists those there are")
        keeper = self._lobby.keeper
        if method.level > keeper.free:
            keeper.check(method.level, authorization(headers))
        self._lobby.check_room()
        return method

    def _on_data(self, event: DataReceived) -> None:
        stream, size = event.stream_id, event.flow_controlled_length
        if not event.data and event.stream_ended is None:
            self._on_control(event)
        call = self._calls.get(stream)
        if call is None or call.feed(event.data):
            self._h2.acknowledge_received_data(size + self._unread.pop(stream, 0), stream)
        else:
            self._unread[stream] = self._unread.get(stream, 0) + size

    def _on_late_data(self, event: LateData) -> None:
        call = self._calls.get(event.stream_id)
        if call is not None:  # h2 has reset it
            call.abandon()
        if call is not None or not event.data:
            self._on_control(event)

    def _on_end(self, event: StreamEnded) -> None:
        call = self._calls.get(event.stream_id)
        if call is not None:
            call.end()

    def _on_reset(self, event: StreamReset) -> None:
        self._on_control(event)
        call = self._calls.get(event.stream_id)
        if call is not None:
            call.abandon()

    def _on_window(self, _event: WindowUpdated) -> None:
        self._wake()

    def _on_settings(self, event: RemoteSettingsChanged) -> None:
        self._greeted = True
        self._on_control(event)
        self._wake()  # its windows may have grown

    def _on_control(self, _event: Event) -> None:
        earned = (self._heard - self._counted) * CONTROL_PER_S
        self._controls, self._counted = min(self._controls + earned, CONTROL_BURST) - 1, self._heard

    def _on_pong(self, _event: PingAckReceived) -> None:
        self._pinged = False
        if self._drains and not self._refuses:
            self._refuses = True
            self._go_away(self._h2.highest_inbound_stream_id)  # the client closes when it has its answers

    def _on_go_away(self, _event: ClientGoesAway) -> None:
        self._refuses = True

    # What is sent.

    def _end_stream(self, stream: int, headers: Headers, all_here: bool) -> None:
        if self._closes:
            return
        with contextlib.suppress(ProtocolError):  # the client has given it up; we shall hear of it at once
            self._h2.send_headers(stream, headers, end_stream=True)
            if not all_here:
                self._h2.reset_stream(stream, ErrorCodes.NO_ERROR)
        self._flush_soon()

    def _ping(self) -> None:
        self._pinged = True
        self._h2.ping(b"\0" * 8)
        self._flush()

    def _go_away(self, last_stream: int) -> None:
        # h2 sends nothing more after a GOAWAY of its own.
        self._flush()
        self._transport.write(GoAwayFrame(0, last_stream_id=last_stream).serialize())

    async def _can_send_more(self, stream: int, due: float) -> None:
        self._flush()
        if self._progress is None:
            self._progress = self.loop.create_future()
        self._due[stream] = due
        try:
            await asyncio.shield(self._progress)
        finally:
            del self._due[stream]

    def _wake(self) -> None:
        if self._progress is not None:
            self._progress.set_result(None)
            self._progress = None

    def _flush_soon(self) -> None:
        """Send what all the calls of this turn say, together."""
        if self._flushing is None:
            self._flushing = self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        data = self._h2.data_to_send()
        if data and not self._closes:
            self._transport.write(data)
