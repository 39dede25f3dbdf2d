"""Bulk inference over lines of JSON: a request a line in, an answer a line out, in their order.

A line that cannot be answered has its error in its own line. Few lines are under way at once, and the body is read only
as fast as answers go out, so that a million lines need no more memory than a few.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Any

import orjson

from quorate.deployments.engine.requests.request import PRIORITY_LEVELS
from quorate.deployments.errors import BodySizeError, RequestError
from quorate.deployments.server.error_text import error_text
from quorate.deployments.server.http.bodies import IncomingBody
from quorate.deployments.server.http.bulk import infer_when_there_is_room
from quorate.deployments.server.http.replies import http_status
from quorate.deployments.server.service import Service
from quorate.deployments.telemetry.trace_context import TraceContext
from quorate.deployments.wire.byte_stream import ByteStream, Receive
from quorate.deployments.wire.inference import Body, InferRequest
from quorate.deployments.wire.json_tensors import BinaryOutputs, dump_response, parse_infer

CONTENT_TYPE = b"application/x-ndjson"
# By these names it is known, too.
CONTENT_TYPES = frozenset({CONTENT_TYPE, b"application/jsonl", b"application/jsonlines", b"application/x-jsonlines"})
# Lines under way at once.
AHEAD = 64


class LineInference:
    """One client's lines. Make it, then iterate ``answers``."""

    def __init__(self, service: Service, model: str, version: str, receive: Receive, given: TraceContext | None = None):
        """Args:
        given: the trace that they came with, of which each is a part.
        """
        self._service, self._model, self._version, self._given = service, model, version, given
        self._stream = ByteStream(receive, service.budget.hold())
        self._running: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(AHEAD)
        self._disconnect: asyncio.Task[None] | None = None

    async def answers(self) -> AsyncGenerator[bytes, None]:
        """Lines, a few at a time.

        Raises:
            UnknownModelError: there is no such model.
            RequestError: there are no lines, or they stop coming.
        """
        owner = asyncio.current_task()
        assert owner is not None
        reader: asyncio.Task[None] | None = None
        task: asyncio.Task[bytes] | None = None
        held: list[bytes] = []
        try:
            limit_bytes = self._service.most_body_bytes(self._model, self._version)
            reader = asyncio.ensure_future(self._read(limit_bytes, owner))
            while True:
                if held and self._running.empty():
                    yield b"".join(held)
                    held.clear()
                if (task := await self._running.get()) is None:
                    break
                if held and not task.done():
                    yield b"".join(held)
                    held.clear()
                held.append(await task)
            if held:
                yield b"".join(held)
            await reader  # raises what ended the lines before their time
        finally:
            self._stream.close()
            self._cancel(reader, self._disconnect, task)
            while not self._running.empty():
                self._cancel(self._running.get_nowait())

    @staticmethod
    def _cancel(*tasks: asyncio.Task[Any] | None) -> None:
        for task in tasks:
            if task is not None:
                task.cancel()

    async def _read(self, limit_bytes: int, owner: asyncio.Task[Any]) -> None:
        """Start answers in the order of their lines; the queue's limit is what holds the client back."""
        count = 0
        try:
            async for line in self._lines(limit_bytes):
                count += 1
                await self._running.put(asyncio.ensure_future(self._answer(line, limit_bytes)))
            if not count:
                raise RequestError("the body holds no lines; send a request in JSON on each")
        except asyncio.CancelledError:
            if self._stream.hung_up:
                owner.cancel()
            raise
        except Exception:
            await self._running.put(None)
            raise
        self._disconnect = asyncio.ensure_future(self._cancel_when_gone(owner))
        await self._running.put(None)

    async def _lines(self, limit_bytes: int) -> AsyncIterator[bytes | None]:
        """Those that are not blank; None for one that is too long, which is read to its end and not kept."""
        parts: list[bytes] = []
        size = taken = 0
        while True:
            chunk = await self._stream.chunk()
            pieces = chunk.split(b"\n")
            for place, piece in enumerate(pieces, 1):
                size += len(piece)
                if size <= limit_bytes:
                    parts.append(piece)
                else:
                    parts.clear()
                if place < len(pieces) or not chunk:
                    line = b"".join(parts).strip()
                    if line or size > limit_bytes:
                        yield line if size <= limit_bytes else None
                    parts, size = [], 0
            if not chunk:
                return
            kept = size if parts else 0
            self._stream.give_back(taken + self._stream.take_held() - kept)
            taken = kept

    async def _cancel_when_gone(self, owner: asyncio.Task[Any]) -> None:
        await self._stream.gone()
        owner.cancel()

    async def _answer(self, line: bytes | None, limit_bytes: int) -> bytes:
        """A line's answer, or its error."""
        service = self._service
        try:
            if line is None:
                raise BodySizeError("is in a line", limit_bytes)
            with IncomingBody(service.budget, service.heavy) as incoming:
                incoming.hold.add(len(line))
                with service.reading():
                    request = await incoming.parse(Body(line), partial(self._parse, line))
                response, _ = await infer_when_there_is_room(service, request, self._given)
                size = sum(array.nbytes for array in response.outputs.values())
                body, _ = await service.heavy.run(size, partial(dump_response, response, BinaryOutputs()))
        except Exception as error:
            return _failure(line or b"", error)
        return body + b"\n"

    def _parse(self, line: bytes) -> InferRequest:
        request, binary = parse_infer(Body(line), self._model, self._version)
        if binary.default or any(binary.by_name.values()):
            raise RequestError("a line has no place for bytes behind its JSON; leave out binary_data")
        # As in every stream: unless it says otherwise, it goes behind what is asked one by one.
        request.parameters = {"priority": PRIORITY_LEVELS, **request.parameters}
        return request


def _failure(line: bytes, error: Exception) -> bytes:
    said: dict[str, Any] = {"error": error_text(error), "status": http_status(error)}
    try:
        identifier = orjson.loads(line)["id"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        identifier = None
    return orjson.dumps({"id": identifier, **said} if isinstance(identifier, str) else said) + b"\n"
