"""What reads bytes of strangers: a good text for each, and what parses it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
from h2.config import H2Configuration
from h2.connection import H2Connection

from quorate.deployments import parse_spec
from quorate.deployments.errors import RequestError
from quorate.deployments.learning.labels import read_label
from quorate.deployments.memory_budget import MemoryBudget
from quorate.deployments.security.access import Doorkeeper
from quorate.deployments.security.doors import Doors
from quorate.deployments.server.grpc.call import Call, Method
from quorate.deployments.server.grpc.connection import GrpcConnection
from quorate.deployments.server.grpc.lobby import Lobby
from quorate.deployments.server.grpc.messages import MessageReader
from quorate.deployments.spec.patch import revise
from quorate.deployments.wire import open_inference_pb2 as pb
from quorate.deployments.wire.answer_id import parse_answer_id
from quorate.deployments.wire.arrow_stream import Sink, read_batches, read_schema
from quorate.deployments.wire.arrow_tensors import read_column
from quorate.deployments.wire.binary_tensors import parse_raw
from quorate.deployments.wire.byte_stream import ByteStream
from quorate.deployments.wire.feedback import GivenLabel, read_label_batch, read_labels
from quorate.deployments.wire.grpc_tensors import parse_infer as parse_message
from quorate.deployments.wire.inference import Body
from quorate.deployments.wire.json_tensors import parse_infer, parse_object
from quorate.deployments.wire.known_json import KnownRequests
from quorate.fusion.errors import QuorateError
from tests.deployments.support.http2_client import INFER, infer_request, prefixed

SPEC = parse_spec(
    {
        "name": "fuzzed", "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "classes": ["0", "1"],
        "members": {"a": {"model": "torch.nn:Identity", "inputs": ["x"], "config": {"deep": [1, {"a": None}]}}},
        "fusion": {"rule": "weighted_mean", "weights": {"a": 1.0}, "deadline_s": 0.25},
    }
)  # fmt: skip
ROWS = np.arange(8, dtype=np.float32).reshape(4, 2)
ITEM = {"name": "x", "datatype": "FP32", "shape": [4, 2], "data": ROWS.ravel().tolist()}
REQUEST = {"id": "i", "inputs": [ITEM], "outputs": [{"name": "fused"}], "parameters": {"explain": True}}
ROWS_TABLE = pa.table({"x": pa.array(ROWS.tolist(), pa.list_(pa.float32(), 2))})
LABELS = [{"id": f"0123456789ab-{n}-1700000000-2", "label": str(n % 2), "row": n, "output": "fused"} for n in range(3)]
KNOWN = json.dumps({"inputs": [ITEM], "parameters": {"priority": 1}}).encode()
STRINGS = b"".join(len(item).to_bytes(4, "little") + item for item in (b"a", b"", b"\xff\x00"))
LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class WireParser:
    """A good text, and what returns for it, and for any other, or raises a QuorateError."""

    good: bytes
    parse: Callable[[bytes], object]


def a_message(data: bytes) -> object:
    try:
        message = pb.ModelInferRequest.FromString(data)
    except Exception as error:  # as the door says it: protobuf's own class differs between its versions
        if type(error).__name__ != "DecodeError":
            raise
        raise RequestError("no message") from None
    return parse_message(message)


def known(data: bytes) -> None:
    """As a door reads what is alike but for its numbers: what that gives is what the parser gives."""
    expected = None
    for first in (KNOWN, data):
        reader: KnownRequests[None] = KnownRequests()
        with contextlib.suppress(QuorateError):
            reader.learn(first, *parse_infer(Body(first), "fuzzed", "1"), note=None)
        found = reader.find(data)
        request = found and found[0].read(found[1])
        if request is not None:
            expected, _ = parse_infer(Body(data), "fuzzed", "1")
            assert {name: array.tobytes() for name, array in request.inputs.items()} == {
                name: array.tobytes() for name, array in expected.inputs.items()
            }
            assert (request.outputs, request.parameters) == (expected.outputs, expected.parameters)
    if expected is None:
        raise RequestError("not known")


def messages(data: bytes) -> None:
    """In pieces, as they come."""
    hold = MemoryBudget(LIMIT_BYTES).hold()
    reader = MessageReader(hold, lambda _size: LIMIT_BYTES)
    for at in range(0, len(data), 7):
        reader.feed(data[at : at + 7])
        while len(reader):
            reader.release(reader.pop()[1])
    if reader.partial:
        raise RequestError("cut off")


def labels(given: list[GivenLabel]) -> object:
    """What they say, wrong ones too."""
    found: list[object] = []
    for one in given:
        try:
            found.append((parse_answer_id(one.id), read_label(SPEC, one)))
        except RequestError as error:
            found.append(error)
    return found


def arrow(data: bytes) -> object:
    """In pieces, and the columns that they hold."""
    return batches(data, lambda batch: read_column("x", batch.column(0), "FP32", (2,)) if batch.num_columns else None)


def batches(data: bytes, read_batch: Callable[[pa.RecordBatch], object]) -> object:
    """In pieces, and what is read of each record batch."""

    async def read() -> object:
        schema = await read_schema(body)
        return [read_batch(batch) async for batch in read_batches(body, schema)]

    pieces = [data[at : at + 100] for at in range(0, len(data), 100)]
    parts: list[dict[str, object]] = [{"type": "http.request", "body": body, "more_body": True} for body in pieces]

    async def receive() -> dict[str, object]:
        return parts.pop(0) if parts else {"type": "http.request"}

    body = ByteStream(receive, MemoryBudget(LIMIT_BYTES).hold())
    return asyncio.run(read())


class _Transport:
    def __init__(self) -> None:
        self.closed = False

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 1) if name == "peername" else None

    def write(self, data: bytes) -> None:
        assert data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0


class _Heavy:
    async def run(self, _size: int, work: Callable[[], object]) -> object:
        return work()


def frames(data: bytes) -> None:
    """A connection of the gRPC door's with a method that reads inference requests."""
    asyncio.run(_connected(data))


async def _connected(data: bytes) -> None:
    mistakes: list[object] = []

    async def answer(call: Call) -> None:
        try:
            parse_message(await call.request())
            await call.send(pb.ModelInferResponse())
        except (QuorateError, asyncio.CancelledError):
            raise
        except Exception as error:
            mistakes.append(error)
            raise

    loop, transport = asyncio.get_running_loop(), _Transport()
    loop.set_exception_handler(lambda _loop, context: mistakes.append(context.get("exception") or context))
    service = SimpleNamespace(
        budget=MemoryBudget(16 * LIMIT_BYTES), heavy=_Heavy(), models=["m"], most_body_bytes=lambda _model: LIMIT_BYTES
    )
    methods = {INFER.encode(): Method(answer, pb.ModelInferRequest)}
    lobby: Lobby[GrpcConnection] = Lobby(service, Doorkeeper(Doors(), "127.0.0.1"), methods)  # type: ignore[arg-type]
    connection = GrpcConnection(lobby, loop)
    connection.connection_made(transport)  # type: ignore[arg-type]
    for at in range(0, len(data), 1000):
        part = data[at : at + 1000]
        lobby.read_buffer[: len(part)] = part
        connection.buffer_updated(len(part))
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    hung_up = transport.closed
    connection.connection_lost(None)
    for _ in range(3):
        await asyncio.sleep(0)
    if mistakes:
        raise AssertionError(mistakes)
    assert service.budget.held_bytes == 0
    if hung_up:
        raise RequestError("the door hung up")


def _written_arrow(table: pa.Table) -> bytes:
    sink = Sink()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.take()


def _written_frames() -> bytes:
    h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    h2.initiate_connection()
    for stream in (1, 3):
        headers = [(":method", "POST"), (":path", INFER), (":scheme", "http"), (":authority", "x")]
        h2.send_headers(stream, [*headers, ("content-type", "application/grpc"), ("grpc-timeout", "1S")])
        h2.send_data(stream, prefixed(infer_request()), end_stream=True)
    h2.ping(b"12345678")
    return h2.data_to_send()


WIRE = {
    "inference as JSON": WireParser(
        json.dumps(REQUEST).encode(), lambda data: parse_infer(Body(memoryview(data), None), "fuzzed", "1")
    ),
    "known JSON": WireParser(KNOWN, known),
    "binary strings": WireParser(STRINGS, lambda data: parse_raw("x", "BYTES", (3,), data)),
    "a revision": WireParser(
        b'{"fusion": {"weights": {"a": 0.5}, "quorum": 1}}', lambda data: revise(SPEC, data.decode("latin-1"))
    ),
    "a message of gRPC": WireParser(infer_request(), a_message),
    "a stream of gRPC messages": WireParser(prefixed(infer_request()) + prefixed(b""), messages),
    "an Arrow stream": WireParser(_written_arrow(ROWS_TABLE), arrow),
    "labels as JSON": WireParser(
        json.dumps({"labels": LABELS}).encode(), lambda data: labels(read_labels(parse_object(data)))
    ),
    "labels as an Arrow stream": WireParser(
        _written_arrow(pa.Table.from_pylist(LABELS)), lambda data: batches(data, lambda b: labels(read_label_batch(b)))
    ),
    "frames of HTTP/2": WireParser(_written_frames(), frames),
}
