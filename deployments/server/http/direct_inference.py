"""Plain inference requests answered from bytes to bytes, without ASGI, a task or a coroutine in between.

Nearly all requests are plain: JSON, or JSON with binary tensors behind it, that is there whole and not long, to the
ensemble, whose answer is the engine's as it is. Whatever else a request may be, and what is wrong with one, is the
application's business (``app``): such a request is left alone, as if nobody had looked at it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable
from time import monotonic, perf_counter_ns
from typing import NamedTuple

from quorate.deployments.engine.requests.request import Answer, Request
from quorate.deployments.engine.revision_set import ServedRevision
from quorate.deployments.memory_budget import MemoryHold
from quorate.deployments.security.access import Doorkeeper
from quorate.deployments.server.compression import COMPRESS_FROM_BYTES, Headers, accepted_coding
from quorate.deployments.server.heavy_work import INLINE_BYTES
from quorate.deployments.server.http.access import check_request
from quorate.deployments.server.http.bodies import NUMBER_BYTES, PARSED_BYTES_PER_NUMBER, cut
from quorate.deployments.server.http.replies import JSON, TEXT_PER_BINARY, InferReply, error_reply, infer_reply
from quorate.deployments.server.service import Asked, Service
from quorate.deployments.server.tracing import ROUTE, answer_headers, begin_http, context_of, ended, failed
from quorate.deployments.telemetry.trace_context import TraceContext
from quorate.deployments.telemetry.tracer import RequestTrace
from quorate.deployments.wire.answer_id import ANSWER_ID
from quorate.deployments.wire.arrow_stream import CONTENT_TYPE
from quorate.deployments.wire.inference import InferRequest, InferResponse
from quorate.deployments.wire.json_tensors import BinaryOutputs, parse_infer
from quorate.deployments.wire.known_json import KnownAnswers, KnownRequests

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
# Of a request what it asks, too; that is None of one that is not plain.
_Read = tuple[InferRequest, BinaryOutputs, Asked | None]


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
        service: what answers.
        dump: what writes an answer that takes long.
        budget: what requests hold.
        known: heads as they came, letter by letter; a client sends the same again and again, but for a length.
        answers: texts, likewise.
    """

    def __init__(self, service: Service, keeper: Doorkeeper, dump: Dump):
        self.service, self.dump, self._keeper = service, dump, keeper
        self.budget = service.budget
        self.known: dict[bytes, PlainHead] = {}
        self.answers = KnownAnswers()
        self._requests: defaultdict[str, KnownRequests[_Checked]] = defaultdict(KnownRequests)  # by version

    def know(self, raw: bytes, head: PlainHead) -> None:
        """Remember a head, unless it will not come again."""
        if head.given is None and len(raw) <= MAX_KNOWN_BYTES:
            if len(self.known) >= MAX_KNOWN:
                self.known.clear()
            self.known[raw] = head

    def read_head(self, method: str, path: str, headers: Headers) -> PlainHead | None:
        """What a head says; None for one that is not plain."""
        service = self.service
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
        began_s, service = monotonic(), self.service
        before = hold.held_bytes
        try:
            check_request(self._keeper, head.path, head.headers)
            request, binary, asked = self._read_known(head, body, hold) or self._read(head, body, hold)
        except Exception:  # the application finds the same, and says so
            asked = None
        if asked is None:
            hold.give_back(hold.held_bytes - before)
            return None
        request.trace = begin_http(service.engine.tracer, head.model, head.given, ROUTE, began_s)
        direct = DirectRequest(self, head, request, binary, asked, hold, write, began_s)
        direct.start()
        return direct

    def _read(self, head: PlainHead, body: bytes, hold: MemoryHold) -> _Read:
        service = self.service
        numbers = body.count(b",") if head.json_bytes is None else body.count(b",", 0, head.json_bytes)
        hold.add_passing(numbers * PARSED_BYTES_PER_NUMBER, numbers * NUMBER_BYTES)
        request, binary = parse_infer(cut(body, head.json_bytes), head.model, head.version)
        if request.classification:
            return request, binary, None
        asked = service.asked(request, service.choose(request))
        if head.json_bytes is None:
            self._requests[head.version].learn(body, request, binary, _checked(asked))
        return request, binary, asked

    def _read_known(self, head: PlainHead, body: bytes, hold: MemoryHold) -> _Read | None:
        """The same of a request such as one that was read before; None where it is not."""
        found = None if head.json_bytes is not None else self._requests[head.version].find(body)
        if found is None:
            return None
        known, text = found
        hold.add_passing(known.numbers * PARSED_BYTES_PER_NUMBER, known.numbers * NUMBER_BYTES)
        request = known.read(text)
        if request is None:
            hold.give_back(known.numbers * NUMBER_BYTES)
            return None
        served, checked = self.service.choose(request), known.note
        if checked.by() is served:
            return request, known.binary, Asked(served, *checked.terms)
        asked = self.service.asked(request, served)
        known.note = _checked(asked)
        return request, known.binary, asked


class _Checked(NamedTuple):
    """A request has been checked: what it asks, which every one does that is alike."""

    by: weakref.ref[ServedRevision]
    terms: tuple[float | None, bool, tuple[str, ...] | None, int]


def _checked(asked: Asked) -> _Checked:
    terms = asked.deadline_s, asked.explain, asked.members, asked.priority
    return _Checked(weakref.ref(asked.served), terms)


class DirectRequest:
    """One request on its way."""

    __slots__ = ("_asked", "_binary", "_door", "_head", "_hold", "_parsed_ns", "_read_s", "_request", "_service",
                 "_submitted", "_task", "_write")  # fmt: skip

    def __init__(
        self,
        door: DirectInference,
        head: PlainHead,
        request: InferRequest,
        binary: BinaryOutputs,
        asked: Asked,
        hold: MemoryHold,
        write: Write,
        began_s: float,
    ):
        self._door, self._service, self._head, self._request, self._binary = door, door.service, head, request, binary
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
            key = self._key(answer)
            if key is not None and self._answer_known(key, answer):
                return
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
            if key is not None:
                self._door.answers.learn(key, body, answer.values, *self._texts(answer))
            self._service.carried(self._request.model, self._read_s, (perf_counter_ns() - fused_ns) / 1e9)
            self._answer(200, headers, body)
        except Exception as failure:
            self._fail(failure)

    def _key(self, answer: Answer) -> Hashable | None:
        """Of an answer that differs from others in its numbers alone; None of any other."""
        request, values = self._request, answer.values
        if answer.explanation is not None or answer.certainty or request.trace is not None:
            return None  # what says how sure an answer is differs from one to the next
        if self._binary.default or self._binary.by_name or TEXT_PER_BINARY * values.nbytes > INLINE_BYTES:
            return None
        said = answer.parameters()
        del said[ANSWER_ID]
        return bool(request.id), values.shape, *said.items()

    def _texts(self, answer: Answer) -> tuple[str, ...]:
        """What else is new in an answer, as it stands there."""
        return (self._request.id, answer.id) if self._request.id else (answer.id,)

    def _answer_known(self, key: Hashable, answer: Answer) -> bool:
        """Answer in the words of an earlier answer, where there is such."""
        fused_ns = perf_counter_ns()
        body = self._door.answers.write(key, answer.values, *self._texts(answer))
        if body is None or (self._head.packs and len(body) >= COMPRESS_FROM_BYTES):
            return False
        self._hold.add(len(body))
        self._service.count(self._request, answer.queued_s, self._parsed_ns, fused_ns)
        self._service.carried(self._request.model, self._read_s, (perf_counter_ns() - fused_ns) / 1e9)
        self._write(200, JSON, body, self._hold)
        return True

    def _later(self, response: InferResponse) -> None:
        """What takes long to write is written elsewhere."""
        self._task = asyncio.get_running_loop().create_task(self._write_long(response))

    async def _write_long(self, response: InferResponse) -> None:
        try:
            headers, body = await self._door.dump(response, self._binary, self._head.headers, self._read_s, self._hold)
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
