"""Arrow streams cut into messages as their bytes arrive, and byte streams read no further than they are asked to."""

import asyncio
import struct

import pyarrow as pa
import pytest

from quorate.deployments.errors import RequestError
from quorate.deployments.memory_budget import MemoryBudget
from quorate.deployments.wire import byte_stream
from quorate.deployments.wire.arrow_stream import Sink, read_batches, read_schema
from quorate.deployments.wire.byte_stream import ByteStream
from quorate.deployments.wire.limits import MAX_ROWS

SCHEMA = pa.schema([("x", pa.int32())])
BATCHES = [pa.record_batch([pa.array(rows, pa.int32())], SCHEMA) for rows in ([1, 2, 3], [], [4])]


def written(batches=BATCHES, **options):
    sink = Sink()
    with pa.ipc.new_stream(sink, SCHEMA, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.take()


def stream(data, size=7, hang_up=False):
    """The body in pieces of ``size`` bytes."""
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append({"type": "http.disconnect"} if hang_up else {"type": "http.request"})

    async def receive():
        return messages.pop(0)

    return ByteStream(receive, MemoryBudget(1 << 20).hold())


async def read(body):
    schema = await read_schema(body)
    return schema, [batch async for batch in read_batches(body, schema)]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_batches_come_out_as_they_were_written_however_they_arrive(size):
    assert asyncio.run(read(stream(written(), size))) == (SCHEMA, BATCHES)


MARK = struct.pack("<I", 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no Arrow IPC stream; start it with its schema"),
        (b"{}", "cut off"),
        (b'{"inputs": []}', "no Arrow IPC stream; write it with"),
        (written()[:-20], "cut off"),
        (written() + b"more", "bytes follow the end"),
        (MARK + struct.pack("<i", 1 << 30), "bytes of metadata; send at most"),
        (MARK + struct.pack("<i", -8), "bytes of metadata; send at most"),
        (MARK + struct.pack("<i", 8) + b"\xff" * 8, "metadata cannot be read"),
        (written()[len(written([])) - 8 :], "start it with its schema"),
        (written(compression="lz4"), "compressed; write them without"),
    ],
)
def test_bytes_that_are_no_stream_are_refused_with_what_to_send(data, message):
    with pytest.raises(RequestError, match=message):
        asyncio.run(read(stream(data)))


def test_a_batch_of_too_many_rows_is_refused():
    batch = pa.record_batch([pa.array([0] * (MAX_ROWS + 1), pa.int32())], SCHEMA)
    with pytest.raises(RequestError, match=f"record batch 1 has {MAX_ROWS + 1} rows; send at most {MAX_ROWS} in one"):
        asyncio.run(read(stream(written([BATCHES[0], batch]), 1 << 20)))


def test_a_body_ends_where_it_ends():
    async def parts():
        body = stream(b"abcdefghij")
        return bytes(await body.read(3)), bytes(await body.read(20)), bytes(await body.read(1))

    assert asyncio.run(parts()) == (b"abc", b"defghij", b"")


def test_a_client_that_hangs_up_cancels_the_reading():
    body = stream(b"abc", hang_up=True)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(body.read(10))
    assert body.hung_up


def test_what_is_still_sent_can_be_thrown_away():
    async def rest():
        body = stream(b"abcdefghij")
        await body.read(1)
        await body.discard()
        return bytes(await body.read(1))

    assert asyncio.run(rest()) == b""


def test_a_client_that_sends_nothing_is_told_so(monkeypatch):
    monkeypatch.setattr(byte_stream, "SILENCE_S", 0.01)

    async def receive():
        await asyncio.Event().wait()

    with pytest.raises(RequestError, match=r"brought nothing for 0\.01 s"):
        asyncio.run(ByteStream(receive, MemoryBudget(100).hold()).read(1))
