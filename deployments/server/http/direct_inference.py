"""Plain inference requests answered from bytes to bytes, without ASGI, a task or a coroutine in between.

Nearly all requests are plain: JSON, or JSON with binary tensors behind it, that is there whole and not long, to the
ensemble, whose answer is the engine's as it is. Whatever else a request may be, and what is wrong with one, is the
application's business (``app``): such a request is left alone, as if nobody had looked at it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic, perf_counter_ns
from typing import NamedTuple

from quorate.deployments.engine.requests.request import Answer, Request
from quorate.deployments.memory_budget import MemoryHold
from quorate.deployments.security.access import Doorkeeper
from quorate.deployments.server.compression import COMPRESS_FROM_BYTES, Headers, accepted_coding
from quorate.deployments.server.heavy_work import INLINE_BYTES
from quorate.deployments.server.http.access import check_request
from quorate.deployments.server.http.bodies import NUMBER_BYTES, PARSED_BYTES_PER_NUMBER, cut
from quorate.deployments.server.http.replies import TEXT_PER_BINARY, InferReply, error_reply, infer_reply
from quorate.deployments.server.service import Asked, Service
from quorate.deployments.server.tracing import ROUTE, answer_headers, begin_http, context_of, ended, failed
from quorate.deployments.telemetry.trace_context import TraceContext
from quorate.deployments.telemetry.tracer import RequestTrace
from quorate.deployments.wire.arrow_stream import CONTENT_TYPE
from quorate.deployments.wire.inference import InferRequest, InferResponse
from quorate.deployments.wire.json_tensors import BinaryOutputs, parse_infer

# A longer body is the application's: it is counted while it comes.
MAX_BODY_BYTES = 64 << 10
# Heads that are known, and how long they may be.
MAX_KNOWN, MAX_KNOWN_BYTES = 4096, 2048
_DIGITS = len(str(MAX_BODY_BYTES))
# Headers that ask for something that is not plain, and the types of bodies that are.
_NOT_PLAIN = frozenset({b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"})
_PLAIN_TYPES = frozenset({b"", b"application/json", b"application/octet-stream"})
_ARROW = CONTENT_TYPE.encode()

# Sends an answer; what it holds of the budget is given back when it is on its way.
Write = Callable[[int, Headers, bytes, MemoryHold], None]
# Writes an answer that takes long, see ``HttpDoor.dump``.
Dump = Callable[[InferResponse, BinaryOutputs, Headers, float, MemoryHold], Awaitable[InferReply]]


class PlainHead(NamedTuple):
    """What the head of a request says that may be answered so.

    Attributes:
        body_bytes: how long its body is.
        json_bytes: of them, the JSON's; None for all.
        packs: the client takes long answers packed.
        given: the trace that it comes with.
    """

    path: str
    model: str
    version: str
    headers: Headers
    body_bytes: int
    json_bytes: int | None
    packs: bool
    given: TraceContext | None


class DirectInference:
    """Answers plain requests for one door.

    Attributes:
        budget: what requests hold.
        known: heads as they came, letter by letter; a client sends the same again and again, but for a length.
    """

    def __init__(self, service: Service, keeper: Doorkeeper, dump: Dump):
        self._service, self._keeper, self._dump = service, keeper, dump
        self.budget = service.budget
        self.known: dict[bytes, PlainHead] = {}

    def know(self, raw: bytes, head: PlainHead) -> None:
        """Remember a head, unless it will not come again."""
        if head.given is None and len(raw) <= MAX_KNOWN_BYTES:
            if len(self.known) >= MAX_KNOWN:
                self.known.clear()
            self.known[raw] = head

    def read_head(self, method: str, path: str, headers: Headers) -> PlainHead | None:
        """What a head says; None for one that is not plain."""
        service = self._service
        model, version = service.infer_paths.get(path, ("", ""))
        if not model or method != "POST":
            return None
        length, json_bytes, packs = -1, None, False
        for name, value in headers:
            if name in _NOT_PLAIN:
                return None
            if name == b"content-length":
                length = int(value)
            elif name == b"inference-header-content-length":
                if json_bytes is not None or not value.isdigit() or len(value) > _DIGITS:
                    return None
                json_bytes = int(value)
            elif name == b"content-type":
                if value.partition(b";")[0].strip().lower() not in _PLAIN_TYPES:
                    return None
            elif name == b"accept":
                if _ARROW in value.lower():
                    return None
            elif name == b"accept-encoding":
                packs = packs or bool(accepted_coding(headers))
        if json_bytes == 0:  # no JSON at all
            return None
        if not max(json_bytes or 0, 1) <= length <= min(MAX_BODY_BYTES, service.most_body_bytes(model, version)):
            return None
        return PlainHead(path, model, version, headers, length, json_bytes, packs, context_of(headers))

    def take(self, head: PlainHead, body: bytes, hold: MemoryHold, write: Write) -> DirectRequest | None:
        """Answer a request, later, by ``write``; None, and nothing has happened, where it is not plain.

        Args:
            hold: holds as many bytes as the body has.
        """
        began_s, service = monotonic(), self._service
        before = hold.held_bytes
        try:
            check_request(self._keeper, head.path, head.headers)
            numbers = body.count(b",") if head.json_bytes is None else body.count(b",", 0, head.json_bytes)
            hold.add(numbers * PARSED_BYTES_PER_NUMBER)
            request, binary = parse_infer(cut(body, head.json_bytes), head.model, head.version)
            hold.give_back(numbers * (PARSED_BYTES_PER_NUMBER - NUMBER_BYTES))
            asked = None if request.classification else service.asked(request)
        except Exception:  # the application finds the same, and says so
            asked = None
        if asked is None:
            hold.give_back(hold.held_bytes - before)
            return None
        request.trace = begin_http(service.engine.tracer, head.model, head.given, ROUTE, began_s)
        direct = DirectRequest(service, self._dump, head, request, binary, asked, hold, write, began_s)
        direct.start()
        return direct


class DirectRequest:
    """One request on its way."""

    __slots__ = ("_asked", "_binary", "_dump", "_head", "_hold", "_parsed_ns", "_read_s", "_request", "_service",
                 "_submitted", "_task", "_write")  # fmt: skip

    def __init__(
        self,
        service: Service,
        dump: Dump,
        head: PlainHead,
        request: InferRequest,
        binary: BinaryOutputs,
        asked: Asked,
        hold: MemoryHold,
        write: Write,
        began_s: float,
    ):
        self._service, self._dump, self._head, self._request, self._binary = service, dump, head, request, binary
        self._asked, self._hold, self._write, self._read_s = asked, hold, write, monotonic() - began_s
        self._parsed_ns = perf_counter_ns()
        self._submitted: Request | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Hand it to the engine."""
        request, asked = self._request, self._asked
        if request.trace is not None:
            request.trace.named(request.id)
        self._submitted = self._service.engine.submit(
            request.inputs, asked.served, asked.deadline_s, asked.explain, asked.members, asked.priority, request.trace,
            self._told,
        )  # fmt: skip

    def cancel(self) -> None:
        """The client is gone."""
        if self._task is not None:
            self._task.cancel()
        elif self._submitted is not None:
            self._service.engine.abandon(self._submitted)
            self._submitted = None
            self._service.failed(self._request, self._parsed_ns, asyncio.CancelledError())
            self._close()

    def _told(self, answer: Answer | None, error: BaseException | None) -> None:
        self._submitted = None
        if answer is None:  # not raised: an error keeps the frames that it has seen, and they the request
            assert isinstance(error, Exception)
            self._service.failed(self._request, self._parsed_ns, error)
            self._fail(error)
            return
        try:
            response = self._service.plain_response(self._request, self._asked, answer)
            self._service.succeeded(self._request, response, answer.queued_s, self._parsed_ns)
            size = TEXT_PER_BINARY * sum([array.nbytes for array in response.outputs.values()])
            if size > INLINE_BYTES:
                self._later(response)
                return
            fused_ns = perf_counter_ns()
            self._hold.add(size)
            headers, body = infer_reply(response, self._binary)
            if self._head.packs and len(body) >= COMPRESS_FROM_BYTES:
                self._hold.give_back(size)
                self._later(response)
                return
            self._service.carried(self._request.model, self._read_s, (perf_counter_ns() - fused_ns) / 1e9)
            self._answer(200, headers, body)
        except Exception as failure:
            self._fail(failure)

    def _later(self, response: InferResponse) -> None:
        """What takes long to write is written elsewhere."""
        self._task = asyncio.get_running_loop().create_task(self._write_long(response))

    async def _write_long(self, response: InferResponse) -> None:
        try:
            headers, body = await self._dump(response, self._binary, self._head.headers, self._read_s, self._hold)
        except asyncio.CancelledError:
            self._close()
            raise
        except Exception as failure:
            self._fail(failure)
        else:
            self._answer(200, headers, body)

    def _fail(self, failure: Exception) -> None:
        if self._request.trace is not None:
            failed(self._request.trace, failure)
        status, headers, body = error_reply(failure)
        assert isinstance(body, bytes)
        self._answer(status, headers, body)

    def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        trace: RequestTrace | None = self._request.trace
        if trace is not None:
            ended(trace, {"http.response.status_code": status})
            headers = [*headers, *answer_headers(trace)]
        self._write(status, headers, body, self._hold)

    def _close(self) -> None:
        """Nobody is answered."""
        trace = self._request.trace
        if trace is not None:
            failed(trace, asyncio.CancelledError())
            ended(trace, {})
        self._hold.close()
