"""Bulk inference over an Arrow stream: record batches in, record batches out, as they come, in their order.

Rows are cut into pieces at least as large as the engine's batches, which travel with everybody else's requests and
behind them. Few pieces are under way at once, and the body is read only as fast as answers go out: a million rows need
no more memory than a few thousand.
"""

# B rows

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from quorate.deployments.engine.requests.request import PRIORITY_LEVELS
from quorate.deployments.errors import RequestError
from quorate.deployments.server.http.arrow_answers import AnswerWriter, alike, join_answers
from quorate.deployments.server.http.bulk import infer_when_there_is_room
from quorate.deployments.server.service import Service
from quorate.deployments.telemetry.trace_context import TraceContext
from quorate.deployments.time_limit import within
from quorate.deployments.wire.arrow_stream import OUTPUTS, PARAMETERS, read_batches, read_schema
from quorate.deployments.wire.arrow_tensors import check_type, read_column
from quorate.deployments.wire.byte_stream import ByteStream, Receive
from quorate.deployments.wire.inference import InferRequest, InferResponse, Scalar
from quorate.deployments.wire.json_tensors import parse_object, parse_parameters
from quorate.deployments.wire.tensor_checks import check_once
from quorate.fusion.errors import QuorateError
from quorate.fusion.registry import RULES

_log = logging.getLogger(__name__)
# After an error midway, how long the client may go on sending before its connection is closed.
LISTEN_S = 30.0
# Pieces grow until answering one takes this share of the ensemble's deadline.
PIECE_SHARE, MAX_PIECE_ROWS = 0.04, 4096


@dataclass(frozen=True)
class _Piece:
    """Rows under way; ``last`` of its record batch, which held so many bytes."""

    answer: asyncio.Task[InferResponse]
    last: bool
    held_bytes: int = 0


class StreamInference:
    """One client's stream. Make it, then iterate ``answers``."""

    def __init__(self, service: Service, model: str, version: str, receive: Receive, given: TraceContext | None = None):
        """Args:
        given: the trace that it came with, of which each piece is a part.
        """
        self._service, self._model, self._version, self._given = service, model, version, given
        self._stream = ByteStream(receive, service.budget.hold())
        self._pieces: asyncio.Queue[_Piece | None] = asyncio.Queue(_room(service))
        self._tensors: list[dict[str, Any]] = []  # what the model reads
        self._parameters: dict[str, Scalar] = {}
        self._outputs: tuple[str, ...] | None = None
        self._disconnect: asyncio.Task[None] | None = None
        self._rows = service.engine.spec.serving.max_batch_size  # of the next piece

    async def answers(self) -> AsyncGenerator[bytes, None]:
        """The answer's bytes, a few at a time.

        An error before the first of them is raised. After that the last record batch is empty and its metadata's
        ``error`` says what is wrong, and then it is raised too.

        Raises:
            QuorateError: the stream cannot be read or answered.
        """
        try:
            # Once: pieces must fit the schema that was checked, whatever is promoted while they travel.
            self._tensors = self._service.model_metadata(self._model, self._version)["inputs"]
            self._refuse_lists()
            schema = await read_schema(self._stream)
            # A stream can wait: unless it says otherwise, its rows go behind those that are asked one by one.
            self._parameters = {"priority": PRIORITY_LEVELS, **_parameters(schema)}
            self._outputs = _outputs(schema) or self._all_outputs()
            self._check_columns(schema)
            async with contextlib.aclosing(self._answered(schema)) as answered:
                async for part in answered:
                    yield part
        finally:
            self._stream.close()

    async def _answered(self, schema: pa.Schema) -> AsyncGenerator[bytes, None]:
        owner = asyncio.current_task()
        assert owner is not None
        reader = asyncio.ensure_future(self._read(schema, owner))
        writer = AnswerWriter(self._model)
        try:
            async for response in self._joined():
                yield writer.batch(response)
            await reader
            yield writer.end()
        except QuorateError as error:
            if writer.started:
                yield writer.failure(error)
                await self._listen_out(reader)
            raise
        finally:
            reader.cancel()
            if self._disconnect is not None:
                self._disconnect.cancel()
            while not self._pieces.empty():
                piece = self._pieces.get_nowait()
                if piece is not None:
                    piece.answer.cancel()

    async def _read(self, schema: pa.Schema, owner: asyncio.Task[Any]) -> None:
        """Start the pieces in their order; the queue's limit is what holds the client back."""
        try:
            async for batch in read_batches(self._stream, schema):
                columns, at, held_bytes = self._columns(batch), 0, self._stream.take_held()
                while at < batch.num_rows:
                    end = at + self._rows
                    rows = {name: array[at:end] for name, array in columns.items()}
                    last = end >= batch.num_rows
                    answer = asyncio.ensure_future(self._ask(rows))
                    await self._pieces.put(_Piece(answer, last, held_bytes if last else 0))
                    at = end
                if not batch.num_rows:
                    self._stream.give_back(held_bytes)
        except asyncio.CancelledError:
            if self._stream.hung_up:
                owner.cancel()
            raise
        except Exception:
            await self._pieces.put(None)
            raise
        self._disconnect = asyncio.ensure_future(self._cancel_when_gone(owner))
        await self._pieces.put(None)

    async def _cancel_when_gone(self, owner: asyncio.Task[Any]) -> None:
        await self._stream.gone()
        owner.cancel()

    async def _joined(self) -> AsyncIterator[InferResponse]:
        """Answers of neighbouring pieces of one record batch as one, where they say the same of themselves."""
        held: list[InferResponse] = []
        while True:
            piece = await self._pieces.get()
            if piece is None:
                return
            try:
                response = await piece.answer
            finally:
                piece.answer.cancel()
            if held and not alike(held[0], response):
                yield join_answers(held)
                held = []
            held.append(response)
            if piece.last:
                yield join_answers(held)
                held = []
                self._stream.give_back(piece.held_bytes)

    async def _ask(self, rows: dict[str, Any]) -> InferResponse:
        request = InferRequest(self._model, rows, self._version, "", self._outputs, self._parameters)
        response, took_s = await infer_when_there_is_room(self._service, request, self._given)
        self._resize(took_s)
        return response

    def _resize(self, took_s: float) -> None:
        """Larger pieces cost less each row, until those who ask one by one would have to wait for them."""
        serving = self._service.engine.spec.serving
        share = took_s / self._service.engine.revision.deadline_s
        if share < PIECE_SHARE / 2:
            most = max(min(MAX_PIECE_ROWS, serving.max_queued_rows // 8), serving.max_batch_size)
            self._rows = min(2 * self._rows, most)
        elif share > PIECE_SHARE:
            self._rows = max(self._rows // 2, serving.max_batch_size)

    def _all_outputs(self) -> tuple[str, ...] | None:
        """All of several outputs by name, unless members are: a stream's answers have the same columns to its end."""
        revision = self._service.engine.revision
        several = revision.views and self._model == revision.spec.name and "members" not in self._parameters
        return tuple(revision.views) if several else None

    def _refuse_lists(self) -> None:
        """A stream is cut into pieces as it comes: what ranks the rows of a request would rank those of a piece."""
        spec = self._service.engine.revision.spec
        fusions = [spec.all_fusions[name] for name in spec.output_names]
        if self._model == spec.name and any(RULES[fusion.rule].lists for fusion in fusions):
            raise RequestError(f"'{self._model}' ranks the rows of a request, and a stream is none; send list by list")

    def _check_columns(self, schema: pa.Schema) -> None:
        datatypes = {item["name"]: item["datatype"] for item in self._tensors}
        for field in schema:
            if field.name not in datatypes:
                known = ", ".join(datatypes)
                raise RequestError(f"unexpected column '{field.name}' for model '{self._model}'; it reads {known}")
            check_type(field.name, field.type, datatypes[field.name])
        for name in datatypes:
            if len(schema.get_all_field_indices(name)) != 1:
                raise RequestError(f"model '{self._model}' reads column '{name}'; send it once")

    def _columns(self, batch: pa.RecordBatch) -> dict[str, Any]:
        return {
            item["name"]: read_column(
                item["name"], batch.column(item["name"]), item["datatype"], tuple(item["shape"][1:])
            )
            for item in self._tensors
        }

    async def _listen_out(self, reader: asyncio.Task[None]) -> None:
        """Let a client that still sends finish: if the connection closed now, it might never read its answer."""
        reader.cancel()
        await asyncio.wait([reader])
        try:
            await within(LISTEN_S, self._stream.discard())
        except (RequestError, asyncio.TimeoutError):
            _log.info("a client of a failed stream goes on sending, or sends nothing; its connection is closed")


def _parameters(schema: pa.Schema) -> dict[str, Scalar]:
    """The request's parameters: a JSON object under ``parameters`` in the schema's metadata."""
    text = (schema.metadata or {}).get(PARAMETERS)
    if text is None:
        return {}
    return parse_parameters({"parameters": parse_object(text, "the schema's parameters are")})


def _outputs(schema: pa.Schema) -> tuple[str, ...] | None:
    """The outputs that are asked for: a JSON list under ``outputs`` in the schema's metadata."""
    text = (schema.metadata or {}).get(OUTPUTS)
    try:
        found = None if text is None else orjson.loads(text)
    except orjson.JSONDecodeError:
        found = text
    if found is None or found == []:
        return None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise RequestError("the schema's outputs are no JSON list of names; send one, or leave it out")
    for place, name in enumerate(found):
        check_once(name, found[:place], "output")
    return tuple(found)


def _room(service: Service) -> int:
    """How many pieces may be under way: what the slowest member has replicas for, one computed and one on its way."""
    ready = min(service.engine.ready().values())
    return 2 * max(ready, 1) - 1  # one more has been started when the queue is full
