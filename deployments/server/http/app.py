"""The HTTP door: an ASGI application that reads the protocol off the wire, asks the service, and writes the answer."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import MutableMapping
from functools import partial
from time import perf_counter
from typing import Any

import orjson

from quorate.deployments.errors import UnsupportedError
from quorate.deployments.memory_budget import MemoryHold
from quorate.deployments.metrics.prometheus import OPEN_METRICS, TEXT
from quorate.deployments.security.access import Doorkeeper, Level
from quorate.deployments.security.doors import Doors
from quorate.deployments.server.compression import Headers, pack_answer
from quorate.deployments.server.http import json_lines
from quorate.deployments.server.http.access import SERVE_HEALTH, check_feedback, check_management, check_request
from quorate.deployments.server.http.arrow_answers import dump_stream
from quorate.deployments.server.http.arrow_inference import StreamInference
from quorate.deployments.server.http.bodies import IncomingBody
from quorate.deployments.server.http.direct_inference import DirectInference
from quorate.deployments.server.http.disconnect import DisconnectWatcher
from quorate.deployments.server.http.feedback import take_label_json, take_label_stream
from quorate.deployments.server.http.kserve_v1 import KserveV1
from quorate.deployments.server.http.management import Route, find_route
from quorate.deployments.server.http.openapi import openapi
from quorate.deployments.server.http.pages import docs, home
from quorate.deployments.server.http.replies import (
    JSON,
    TEXT_PER_BINARY,
    InferReply,
    Reply,
    error_reply,
    infer_reply,
    json_reply,
    not_found,
    serve_health,
    traced,
    wrong_method,
)
from quorate.deployments.server.http.streams import PIECE_BYTES, Send, begin, send_stream, send_whole
from quorate.deployments.server.management import Management
from quorate.deployments.server.service import Service
from quorate.deployments.server.tracing import ROUTE, begin_http, context_of
from quorate.deployments.telemetry.trace_context import TraceContext
from quorate.deployments.telemetry.tracer import RequestTrace
from quorate.deployments.wire.arrow_stream import CONTENT_TYPE
from quorate.deployments.wire.byte_stream import Receive
from quorate.deployments.wire.inference import Body, InferRequest, InferResponse
from quorate.deployments.wire.json_tensors import BinaryOutputs, parse_infer

Scope = MutableMapping[str, Any]

_MODEL = re.compile(r"^/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(ready|infer|feedback))?$")
_ARROW = CONTENT_TYPE.encode()
# A spec of numbers; tensors do not come this way.
MAX_MANAGEMENT_BYTES = 16 << 20


class HttpDoor:
    """Serves one ensemble; give it to uvicorn.

    Attributes:
        budget: what requests hold; all doors of a server have the same.
        direct: answers what is plain without coming here.
    """

    def __init__(self, service: Service, keeper: Doorkeeper | None = None):
        """Args:
        keeper: admits requests; everyone on this machine when None.
        """
        self._service, self._management = service, Management(service)
        self._keeper = keeper or Doorkeeper(Doors())
        self.budget, self._heavy = service.budget, service.heavy
        self._clients = DisconnectWatcher()
        self._v1 = KserveV1(service, self._clients)
        self.direct = DirectInference(service, self._keeper, self.dump)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        with self.budget.hold() as hold:
            try:
                status, headers, body = await self._answer(scope, receive)
                if isinstance(body, bytes) and len(body) > PIECE_BYTES:  # until its client has read it
                    hold.add(len(body))
            except asyncio.CancelledError:
                return  # the client is gone
            except Exception as error:
                status, headers, body = error_reply(error)
            if not isinstance(body, bytes):
                await send_stream(send, status, headers, body)
                return
            headers = [*headers, (b"content-length", str(len(body)).encode())]
            await send_whole(send, status, headers, b"" if scope["method"] == "HEAD" else body)

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        path, method = scope["path"], scope["method"]
        check_request(self._keeper, path, scope["headers"])
        found = _MODEL.match(path)
        if found is not None and path != "/v2/models/stats":
            return await self._answer_model(method, found[1], found[2] or "", found[3] or "", scope, receive)
        service = self._service
        match path:
            case "/v2" | "/v2/":
                reply: Reply = json_reply(service.server_metadata())
            case "/v2/health/live":
                reply = 200, JSON, b""
            case "/v2/health/ready":
                reply = 200 if service.ready() else 503, JSON, b""
            case _ if path == SERVE_HEALTH:
                reply = serve_health(service.ready())
            case "/openapi.json":
                reply = json_reply(openapi(service, self._keeper.free < Level.ASK))
            case "/":
                reply = 200, *home()
            case "/docs":
                reply = 200, *docs(openapi(service, self._keeper.free < Level.ASK))
            case "/v2/online":
                reply = json_reply(service.online())
            case "/metrics":
                reply = _metrics(service, scope)
            case _:
                route = find_route(path)
                if route is not None:
                    return await self._answer_route(route, method, scope, receive)
                return await self._v1.answer(path, method, scope["headers"], receive) or not_found(path)
        if method not in ("GET", "HEAD"):
            return wrong_method(method, "GET")
        return reply

    async def _answer_model(
        self, method: str, model: str, version: str, verb: str, scope: Scope, receive: Receive
    ) -> Reply:
        service = self._service
        if verb == "infer":
            if method != "POST":
                return wrong_method(method, "POST")
            kind = _header(scope, b"content-type").partition(b";")[0].strip().lower()
            given = context_of(scope["headers"])
            if kind == _ARROW:
                answers = StreamInference(service, model, version, receive, given).answers()
                return 200, [(b"content-type", _ARROW)], await begin(answers)
            if kind in json_lines.CONTENT_TYPES:
                return await self._infer_lines(model, version, scope, receive, given)
            trace = begin_http(service.engine.tracer, model, given, ROUTE)
            work = self._infer(model, version, scope, receive, trace)
            return await (work if trace is None else traced(trace, work))
        if verb == "feedback":
            if method != "POST":
                return wrong_method(method, "POST")
            check_feedback(self._keeper, scope["headers"])
            arrow = _header(scope, b"content-type").partition(b";")[0].strip().lower() == _ARROW
            take = take_label_stream if arrow else take_label_json
            return json_reply((await take(service, model, version, scope["headers"], receive)).to_dict())
        if method not in ("GET", "HEAD"):
            return wrong_method(method, "GET")
        if verb == "ready":
            return 200 if service.model_ready(model, version) else 400, JSON, b""
        return json_reply(service.model_metadata(model, version))

    async def _answer_route(self, route: Route, method: str, scope: Scope, receive: Receive) -> Reply:
        if method not in route.methods and not (method == "HEAD" and "GET" in route.methods):
            return wrong_method(method, ", ".join(route.methods))
        check_management(self._keeper, scope["path"], scope["headers"])
        with IncomingBody(self.budget, self._heavy, MAX_MANAGEMENT_BYTES) as incoming:
            body = await incoming.read(scope["headers"], receive)
            reply = route.answer(self._management, bytes(body.json or b""))
        if inspect.isawaitable(reply):
            reply = await reply
        return 200, JSON, b"" if reply is None else orjson.dumps(reply)

    async def _infer(
        self, model: str, version: str, scope: Scope, receive: Receive, trace: RequestTrace | None
    ) -> Reply:
        started = perf_counter()
        service = self._service
        with service.reading():
            limit_bytes = service.most_body_bytes(model, version)
        with IncomingBody(self.budget, self._heavy, limit_bytes) as incoming:
            with service.reading():
                body = await incoming.read(scope["headers"], receive)
                request, binary = await incoming.parse(body, partial(self._parse, body, model, version))
            parsed = perf_counter()
            request.trace = trace
            response = await self._clients.work_for(receive, service.infer(request, incoming.hold))
            return 200, *await self.dump(response, binary, scope["headers"], parsed - started, incoming.hold)

    async def _infer_lines(
        self, model: str, version: str, scope: Scope, receive: Receive, given: TraceContext | None
    ) -> Reply:
        if _header(scope, b"content-encoding"):
            raise UnsupportedError("lines are read as they come and not unpacked; send them without Content-Encoding")
        answers = json_lines.LineInference(self._service, model, version, receive, given).answers()
        return 200, [(b"content-type", json_lines.CONTENT_TYPE)], await begin(answers)

    def _parse(self, body: Body, model: str, version: str) -> tuple[InferRequest, BinaryOutputs]:
        if body.json is not None:
            return parse_infer(body, model, version)
        assert body.binary is not None
        return self._service.raw_input(model, body.binary, version), BinaryOutputs(default=True)

    async def dump(
        self, response: InferResponse, binary: BinaryOutputs, asked: Headers, parse_s: float, hold: MemoryHold
    ) -> InferReply:
        """Write an answer, a long one on another thread, as its client wants it.

        Args:
            asked: the request's headers.
            parse_s: how long that has taken to read.
        """
        fused = perf_counter()
        size = TEXT_PER_BINARY * sum(array.nbytes for array in response.outputs.values())
        hold.add(size)
        if any(_ARROW in value.lower() for name, value in asked if name == b"accept"):
            return [(b"content-type", _ARROW)], await self._heavy.run(size, partial(dump_stream, response))
        headers, body = await self._heavy.run(size, partial(infer_reply, response, binary))
        self._service.carried(response.model, parse_s, perf_counter() - fused)
        body, coding = await pack_answer(body, asked, self._heavy)
        return [*headers, *coding], body


def _metrics(service: Service, scope: Scope) -> Reply:
    """As Prometheus asks for it: OpenMetrics has exemplars."""
    metrics = service.engine.metrics
    if b"application/openmetrics-text" in _header(scope, b"accept"):
        return 200, [(b"content-type", OPEN_METRICS.encode())], metrics.open_metrics()
    return 200, [(b"content-type", TEXT.encode())], metrics.text()


def _header(scope: Scope, name: bytes) -> bytes:
    found = b""
    for key, value in scope["headers"]:
        if key == name:
            found = found + b"," + value if found else value
    return found
