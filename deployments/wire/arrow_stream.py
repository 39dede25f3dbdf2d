"""An Arrow IPC stream off the wire, message by message as it arrives.

pyarrow reads streams from blocking files only; its push decoder is not in Python. So the cutting into messages is done
here (the encapsulated message format of the Arrow columnar specification: 0xFFFFFFFF, length, flatbuffer, body), and
pyarrow reads each message.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa

from quorate.deployments.errors import RequestError
from quorate.deployments.wire.byte_stream import ByteStream
from quorate.deployments.wire.limits import MAX_ROWS

CONTENT_TYPE = "application/vnd.apache.arrow.stream"
# Metadata, JSON objects all: of a request's schema and of an answer's record batch, its parameters, and where it has
# several outputs those of each; of the empty record batch that ends a failed answer, ``error`` and the HTTP ``status``
# that it would have had.
PARAMETERS, OUTPUT_PARAMETERS, ERROR = b"parameters", b"output_parameters", b"error"
# Of a request's schema: a JSON list of the outputs that are asked for; all when left out.
OUTPUTS = b"outputs"
MAX_METADATA_BYTES = 1 << 20
MAX_BATCH_BYTES = 64 << 20

_PREFIX = struct.Struct("<Ii")  # continuation marker, bytes of metadata
_CONTINUATION = 0xFFFFFFFF
_SCHEMA, _RECORD_BATCH = 1, 3  # of the flatbuffer's MessageHeader union
# Places in the vtables of Message and RecordBatch (format/Message.fbs).
_HEADER_TYPE, _HEADER, _BODY_LENGTH, _COMPRESSION = 1, 2, 3, 3


class Sink:
    """A file that is only written to; ``take`` gives what came since."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


async def read_schema(stream: ByteStream) -> pa.Schema:
    """The schema that a stream starts with.

    Raises:
        RequestError: it starts with something else.
    """
    found = await _next_message(stream)
    if found is None or found[0] != _SCHEMA:
        raise RequestError("the body is no Arrow IPC stream; start it with its schema, as pyarrow.ipc.new_stream does")
    try:
        return pa.ipc.read_schema(pa.ipc.read_message(found[1]))
    except (pa.ArrowException, OSError) as error:
        raise RequestError(f"the stream's schema cannot be read ({_clip(error)}); write it again") from None


async def read_batches(stream: ByteStream, schema: pa.Schema) -> AsyncIterator[pa.RecordBatch]:
    """The record batches that follow, each validated in full: its bytes came over the network and may be anything.

    Raises:
        RequestError: a batch that cannot be read, or is larger than a request may be.
    """
    number = 0
    while (found := await _next_message(stream)) is not None:
        kind, data = found
        if kind != _RECORD_BATCH:
            raise RequestError("a message of the stream is no record batch; send plain columns, no dictionaries")
        try:
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(data), schema)
            if batch.num_rows <= MAX_ROWS:
                batch.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise RequestError(f"record batch {number} cannot be read ({_clip(error)}); write it again") from None
        if batch.num_rows > MAX_ROWS:
            raise RequestError(f"record batch {number} has {batch.num_rows} rows; send at most {MAX_ROWS} in one")
        yield batch
        number += 1


async def _next_message(stream: ByteStream) -> tuple[int, pa.Buffer] | None:
    """The next message's kind and its bytes; None at the end."""
    prefix = await stream.read(_PREFIX.size)
    if not prefix:
        return None
    if len(prefix) < _PREFIX.size:
        raise RequestError("the Arrow stream is cut off; send all of it")
    marker, length = _PREFIX.unpack(prefix)
    if marker != _CONTINUATION:
        raise RequestError("the body is no Arrow IPC stream; write it with pyarrow.ipc.new_stream")
    if length == 0:
        if await stream.read(1):
            raise RequestError("bytes follow the end of the Arrow stream; send one stream")
        return None
    if not 0 < length <= MAX_METADATA_BYTES or length % 8:
        raise RequestError(f"an Arrow message has {length} bytes of metadata; send at most {MAX_METADATA_BYTES}, by 8")
    metadata = await stream.read(length)
    if len(metadata) < length:
        raise RequestError("the Arrow stream is cut off; send all of it")
    kind, body_length = _describe(metadata)
    if not 0 <= body_length <= MAX_BATCH_BYTES:
        raise RequestError(f"a record batch has {body_length} bytes; send at most {MAX_BATCH_BYTES} in one")
    message = prefix + metadata
    if not await stream.read_onto(message, body_length):
        raise RequestError("the Arrow stream is cut off; send all of it")
    return kind, pa.py_buffer(message)


def _describe(metadata: bytearray) -> tuple[int, int]:
    """A message's kind and the length of its body."""
    try:
        table = struct.unpack_from("<I", metadata)[0]
        kind = _field(metadata, table, _HEADER_TYPE, "<B")
        header = _place(metadata, table, _HEADER)
        if kind == _RECORD_BATCH and header:
            # What unpacks may be a thousand times as long as what was sent, and no length is there to check before.
            header += struct.unpack_from("<I", metadata, header)[0]
            if _place(metadata, header, _COMPRESSION):
                raise RequestError("the record batches are compressed; write them without compression")
        return kind, _field(metadata, table, _BODY_LENGTH, "<q")
    except struct.error:
        raise RequestError("an Arrow message's metadata cannot be read; write the stream again") from None


def _place(data: bytearray, table: int, field: int) -> int:
    """Where a flatbuffer table holds a field; 0 where it does not."""
    vtable: int = table - struct.unpack_from("<i", data, table)[0]
    if vtable < 0:
        raise struct.error("vtable before the start")
    size = struct.unpack_from("<H", data, vtable)[0]
    at = 4 + 2 * field
    offset: int = struct.unpack_from("<H", data, vtable + at)[0] if at < size else 0
    return table + offset if offset else 0


def _field(data: bytearray, table: int, field: int, kind: str) -> int:
    at = _place(data, table, field)
    value: int = struct.unpack_from(kind, data, at)[0] if at else 0
    return value


def _clip(error: Any) -> str:
    return " ".join(str(error).split())[:200]
