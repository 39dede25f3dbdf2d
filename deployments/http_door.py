"""The HTTP door: an ASGI application that reads the protocol off the wire, asks the service, and writes the answer."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any
from urllib.parse import unquote

import orjson

from quorate.deployments.json_tensors import dump_response, parse_infer
from quorate.deployments.service import MAX_BODY_BYTES, Service
from quorate.fusion.errors import OverloadedError, QuorateError, RequestError, UnknownModelError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Reply = tuple[int, Headers, bytes]

_log = logging.getLogger(__name__)
_MODEL = re.compile(r"^/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(ready|infer|config|stats))?$")
_JSON: Headers = [(b"content-type", b"application/json")]
# Most answers are out before this; only the others pay for watching whether the client is still there.
WATCH_AFTER_S = 0.02


class HttpDoor:
    """Serves one ensemble; give it to uvicorn."""

    def __init__(self, service: Service):
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            status, headers, body = await self._answer(scope, receive)
        except asyncio.CancelledError:
            return  # the client is gone
        except QuorateError as error:
            status, headers, body = _error(error)
        except Exception:
            _log.exception("a request failed")
            status, headers, body = 500, _JSON, b'{"error":"internal error; the server log has the details"}'
        headers = [*headers, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        path, method = unquote(scope["path"]), scope["method"]
        found = _MODEL.match(path)
        if found is not None:
            return await self._answer_model(method, found[1], found[2] or "", found[3] or "", scope, receive)
        service = self._service
        match path:
            case "/v2" | "/v2/":
                reply: Reply = _reply(service.server_metadata())
            case "/v2/health/live":
                reply = 200, _JSON, b""
            case "/v2/health/ready":
                reply = 200 if service.ready() else 503, _JSON, b""
            case "/metrics":
                reply = 200, [(b"content-type", b"text/plain; version=0.0.4")], service.engine.metrics.text()
            case _:
                return 404, _JSON, orjson.dumps({"error": f"there is no {path[:200]}; see /v2"})
        if method not in ("GET", "HEAD"):
            return _wrong_method(method, "GET")
        return reply

    async def _answer_model(
        self, method: str, model: str, version: str, verb: str, scope: Scope, receive: Receive
    ) -> Reply:
        service = self._service
        if verb == "infer":
            if method != "POST":
                return _wrong_method(method, "POST")
            return await self._infer(model, version, scope, receive)
        if method not in ("GET", "HEAD"):
            return _wrong_method(method, "GET")
        if verb == "ready":
            return 200 if service.model_ready(model, version) else 400, _JSON, b""
        if verb:
            raise UnknownModelError(f"{model}/{verb}", "metadata, ready and infer of a model")
        return _reply(service.model_metadata(model, version))

    async def _infer(self, model: str, version: str, scope: Scope, receive: Receive) -> Reply:
        started = perf_counter()
        body = await _read_body(scope, receive)
        try:
            request = parse_infer(body, model, version)
        except RequestError:
            self._service.engine.metrics.answered("invalid")
            raise
        parsed = perf_counter()
        response = await _while_connected(receive, self._service.infer(request))
        fused = perf_counter()
        reply = dump_response(response)
        self._service.engine.metrics.door(parsed - started + perf_counter() - fused)
        return 200, _JSON, reply


async def _while_connected(receive: Receive, work: Awaitable[Any]) -> Any:
    """Await ``work`` and cancel it when the client hangs up."""
    task = asyncio.current_task()
    assert task is not None
    watcher: asyncio.Task[None] | None = None

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        task.cancel()

    def start() -> None:
        nonlocal watcher
        watcher = asyncio.ensure_future(watch())

    timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, start)
    try:
        return await work
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body, refused as soon as it is known to be too long."""
    chunks: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError
        chunk: bytes = message.get("body", b"")
        length += len(chunk)
        if length > MAX_BODY_BYTES:
            raise RequestError(f"the body is over {MAX_BODY_BYTES} bytes; send fewer rows at once")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks) if len(chunks) > 1 else chunk


def _reply(data: Any) -> Reply:
    return 200, _JSON, orjson.dumps(data)


def _wrong_method(method: str, right: str) -> Reply:
    return (
        405,
        [*_JSON, (b"allow", right.encode())],
        orjson.dumps({"error": f"{method} is not for this path; use {right}"}),
    )


def _error(error: QuorateError) -> Reply:
    headers = list(_JSON)
    if isinstance(error, OverloadedError):
        headers.append((b"retry-after", str(max(1, round(error.retry_after_s))).encode()))
    return error.http_status, headers, orjson.dumps({"error": str(error)})
