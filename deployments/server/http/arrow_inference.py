"""Bulk inference over an Arrow stream: record batches in, record batches out, as they come, in their order.

Rows are cut into pieces at least as large as the engine's batches, which travel with everybody else's requests and
behind them. Few pieces are under way at once, and the body is read only as fast as answers go out: a million rows need
no more memory than a few thousand.
"""

# B rows

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from quorate.deployments.engine.request import PRIORITY_LEVELS
from quorate.deployments.errors import OverloadedError, RequestError
from quorate.deployments.server.error_text import clip
from quorate.deployments.server.service import Service
from quorate.deployments.wire.arrow_stream import ERROR, PARAMETERS, Sink, read_batches, read_schema
from quorate.deployments.wire.arrow_tensors import check_type, read_column, write_column
from quorate.deployments.wire.byte_stream import ByteStream, Receive
from quorate.deployments.wire.inference import VERSION, InferRequest, InferResponse, Scalar
from quorate.deployments.wire.json_tensors import parse_parameters
from quorate.fusion.errors import QuorateError

_log = logging.getLogger(__name__)
# A server that is overloaded for so long ends the stream.
PATIENCE_S = 30.0
_PAUSE_S = 0.01
# After an error midway, how long the client may yet send before its line is cut.
LISTEN_S = 30.0
# Pieces grow until answering one takes this share of the ensemble's deadline.
PIECE_SHARE, MAX_PIECE_ROWS = 0.04, 4096
# In an answer these name rows of one piece, and joined pieces number theirs anew.
_BY_ROW = ("rows_missing", "rows_abstained")


@dataclass(frozen=True)
class _Piece:
    """Rows under way; ``last`` of its record batch."""

    answer: asyncio.Task[InferResponse]
    last: bool


class StreamInference:
    """One client's stream. Make it, then iterate ``answers``."""

    def __init__(self, service: Service, model: str, version: str, receive: Receive):
        self._service, self._model, self._version = service, model, version
        self._stream = ByteStream(receive)
        self._pieces: asyncio.Queue[_Piece | None] = asyncio.Queue(_room(service))
        self._tensors: list[dict[str, Any]] = []  # what the model reads
        self._parameters: dict[str, Scalar] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._rows = service.engine.spec.serving.max_batch_size  # of the next piece

    async def answers(self) -> AsyncGenerator[bytes, None]:
        """The answer's bytes, a few at a time.

        An error before the first of them is raised. After that the last record batch is empty and its metadata's
        ``error`` says what is wrong, and then it is raised too.

        Raises:
            QuorateError: the stream cannot be read or answered.
        """
        # Once: pieces must fit the schema that was checked, whatever is promoted while they travel.
        self._tensors = self._service.model_metadata(self._model, self._version)["inputs"]
        schema = await read_schema(self._stream)
        # A stream can wait: unless it says otherwise, its rows go behind those that are asked one by one.
        self._parameters = {"priority": PRIORITY_LEVELS, **_parameters(schema)}
        self._check_columns(schema)
        whose = asyncio.current_task()
        assert whose is not None
        reader = asyncio.ensure_future(self._read(schema, whose))
        writer = _Writer(self._model)
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
            if self._watcher is not None:
                self._watcher.cancel()
            while not self._pieces.empty():
                piece = self._pieces.get_nowait()
                if piece is not None:
                    piece.answer.cancel()

    async def _read(self, schema: pa.Schema, whose: asyncio.Task[Any]) -> None:
        """Start the pieces in their order; the queue's limit is what holds the client back."""
        try:
            async for batch in read_batches(self._stream, schema):
                columns, at = self._columns(batch), 0
                while at < batch.num_rows:
                    end = at + self._rows
                    rows = {name: array[at:end] for name, array in columns.items()}
                    await self._pieces.put(_Piece(asyncio.ensure_future(self._ask(rows)), last=end >= batch.num_rows))
                    at = end
        except asyncio.CancelledError:
            if self._stream.hung_up:
                whose.cancel()
            raise
        except Exception:
            await self._pieces.put(None)
            raise
        self._watcher = asyncio.ensure_future(self._watch(whose))
        await self._pieces.put(None)

    async def _watch(self, whose: asyncio.Task[Any]) -> None:
        await self._stream.gone()
        whose.cancel()

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
            if held and not _alike(held[0], response):
                yield _join(held)
                held = []
            held.append(response)
            if piece.last:
                yield _join(held)
                held = []

    async def _ask(self, rows: dict[str, Any]) -> InferResponse:
        """Ask when there is room: a stream can wait, and what is asked one by one cannot."""
        engine = self._service.engine
        limit = engine.spec.serving.max_queued_rows
        request = InferRequest(self._model, rows, self._version, parameters=self._parameters)
        until = time.monotonic() + PATIENCE_S
        while True:
            asked = time.monotonic()
            late = asked > until
            if engine.queued_rows <= limit // 2 or late:
                try:
                    response = await self._service.infer(request)
                except OverloadedError:
                    if late:
                        raise
                else:
                    self._resize(time.monotonic() - asked)
                    return response
            await asyncio.sleep(_PAUSE_S)

    def _resize(self, took_s: float) -> None:
        """Larger pieces cost less each row, until those who ask one by one would have to wait for them."""
        serving = self._service.engine.spec.serving
        share = took_s / self._service.engine.revision.fusion.deadline_s
        if share < PIECE_SHARE / 2:
            most = max(min(MAX_PIECE_ROWS, serving.max_queued_rows // 8), serving.max_batch_size)
            self._rows = min(2 * self._rows, most)
        elif share > PIECE_SHARE:
            self._rows = max(self._rows // 2, serving.max_batch_size)

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
        """Let a client that still sends finish: a line cut now could cost it the answer that it has yet to read."""
        reader.cancel()
        await asyncio.wait([reader])
        try:
            await asyncio.wait_for(self._stream.discard(), LISTEN_S)
        except (RequestError, asyncio.TimeoutError):
            _log.info("a client of a failed stream goes on sending, or nothing; its line is cut")


class _Writer:
    """Answers as an Arrow stream, whose schema the first of them decides."""

    def __init__(self, model: str):
        self._metadata = {"model_name": model, "model_version": VERSION}
        self._sink = Sink()
        self._writer: pa.RecordBatchStreamWriter | None = None
        self._last: pa.RecordBatch | None = None

    @property
    def started(self) -> bool:
        return self._writer is not None

    def batch(self, response: InferResponse) -> bytes:
        columns = {name: write_column(array) for name, array in response.outputs.items()}
        schema = pa.schema([pa.field(n, c.type, nullable=False) for n, c in columns.items()], metadata=self._metadata)
        if self._writer is None:
            self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, "w"), schema)
        elif self._last is not None and schema != self._last.schema:
            raise QuorateError("the answer's shape has changed midway; ask for the rows from here on in a new stream")
        account = {PARAMETERS: orjson.dumps(response.parameters)} if response.parameters else None
        self._last = pa.record_batch(list(columns.values()), schema=schema)
        self._writer.write_batch(self._last, custom_metadata=account)
        return self._sink.take()

    def failure(self, error: QuorateError) -> bytes:
        assert self._writer is not None
        assert self._last is not None
        word = orjson.dumps({"error": clip(str(error)), "status": error.http_status})
        self._writer.write_batch(self._last.slice(0, 0), custom_metadata={ERROR: word})
        return self._sink.take()

    def end(self) -> bytes:
        if self._writer is None:
            raise RequestError("the stream holds no rows; send at least one")
        self._writer.close()
        return self._sink.take()


def dump_stream(response: InferResponse) -> bytes:
    """One answer as a whole Arrow stream."""
    writer = _Writer(response.model)
    return writer.batch(response) + writer.end()


def _parameters(schema: pa.Schema) -> dict[str, Scalar]:
    """The request's parameters: a JSON object under ``parameters`` in the schema's metadata."""
    text = (schema.metadata or {}).get(PARAMETERS)
    if text is None:
        return {}
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the schema's parameters are not JSON ({error}); send a JSON object") from None
    return parse_parameters({"parameters": found})


def _room(service: Service) -> int:
    """How many pieces may be under way: what the slowest member has replicas for, one computed and one on its way."""
    ready = min(service.engine.ready().values())
    return 2 * max(ready, 1) - 1  # one more has been started when the queue is full


def _alike(first: InferResponse, second: InferResponse) -> bool:
    return (
        first.parameters == second.parameters
        and not any(key in first.parameters for key in _BY_ROW)
        and all(a.shape[1:] == second.outputs[n].shape[1:] for n, a in first.outputs.items())
    )


def _join(responses: list[InferResponse]) -> InferResponse:
    first = responses[0]
    if len(responses) == 1:
        return first
    outputs = {name: np.concatenate([r.outputs[name] for r in responses]) for name in first.outputs}
    return InferResponse(first.model, outputs, first.id, first.parameters)
