"""Answers as an Arrow stream: joined where they say the same of themselves, written as they come."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import orjson
import pyarrow as pa

from quorate.deployments.errors import RequestError
from quorate.deployments.server.error_text import clip
from quorate.deployments.wire.answer_id import ANSWER_ID
from quorate.deployments.wire.arrow_stream import ERROR, OUTPUT_PARAMETERS, PARAMETERS, Sink
from quorate.deployments.wire.arrow_tensors import write_column
from quorate.deployments.wire.inference import VERSION, InferResponse, Scalar
from quorate.fusion.errors import QuorateError

# In an answer these name rows of one piece, and joined pieces number theirs anew.
BY_ROW = ("rows_missing", "rows_abstained", "prediction_sets", "prediction_intervals")


class AnswerWriter:
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
        said = {name: _of_a_field(parameters) for name, parameters in response.output_parameters.items()}
        fields = [pa.field(n, c.type, nullable=False, metadata=said.get(n)) for n, c in columns.items()]
        schema = pa.schema(fields, metadata=self._metadata)
        if self._writer is None:
            self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, "w"), schema)
        elif self._last is not None and schema != self._last.schema:
            raise QuorateError("the answer's shape has changed midway; ask for the rows from here on in a new stream")
        account = {PARAMETERS: orjson.dumps(response.parameters)} if response.parameters else {}
        if several := {name: of for name, of in response.output_parameters.items() if "revision" in of}:
            account[OUTPUT_PARAMETERS] = orjson.dumps(several)
        self._last = pa.record_batch(list(columns.values()), schema=schema)
        self._writer.write_batch(self._last, custom_metadata=account or None)
        return self._sink.take()

    def failure(self, error: QuorateError) -> bytes:
        assert self._writer is not None
        assert self._last is not None
        failure = orjson.dumps({"error": clip(str(error)), "status": error.http_status, "kind": type(error).__name__})
        self._writer.write_batch(self._last.slice(0, 0), custom_metadata={ERROR: failure})
        return self._sink.take()

    def end(self) -> bytes:
        if self._writer is None:
            raise RequestError("the stream holds no rows; send at least one")
        self._writer.close()
        return self._sink.take()


def _of_a_field(parameters: Mapping[str, Scalar]) -> dict[str, str]:
    """What is true of a column in every answer."""
    return {key: str(parameters[key]) for key in ("classes", "task") if key in parameters}


def dump_stream(response: InferResponse) -> bytes:
    """One answer as a whole Arrow stream."""
    writer = AnswerWriter(response.model)
    return writer.batch(response) + writer.end()


def alike(first: InferResponse, second: InferResponse) -> bool:
    """Whether two answers say the same of themselves, but for what they are called."""
    return (
        _of_all(first.parameters) == _of_all(second.parameters)
        and _of_outputs(first) == _of_outputs(second)
        and not any(key in said for said in (first.parameters, *first.output_parameters.values()) for key in BY_ROW)
        and all(a.shape[1:] == second.outputs[n].shape[1:] for n, a in first.outputs.items())
    )


def join_answers(responses: list[InferResponse]) -> InferResponse:
    first = responses[0]
    if len(responses) == 1:
        return first
    outputs = {name: np.concatenate([r.outputs[name] for r in responses]) for name in first.outputs}
    ids = [str(r.parameters[ANSWER_ID]) for r in responses if ANSWER_ID in r.parameters]  # a member's answer has none
    called: dict[str, Scalar] = {ANSWER_ID: ",".join(ids)}
    said = {
        name: {**parameters, **called} if ANSWER_ID in parameters else parameters
        for name, parameters in first.output_parameters.items()
    }
    parameters = {**first.parameters, **called} if ANSWER_ID in first.parameters else first.parameters
    return InferResponse(first.model, outputs, first.id, parameters, said)


def _of_all(parameters: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return {name: value for name, value in parameters.items() if name != ANSWER_ID}


def _of_outputs(response: InferResponse) -> dict[str, dict[str, Scalar]]:
    return {name: _of_all(parameters) for name, parameters in response.output_parameters.items()}
