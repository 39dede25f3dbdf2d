"""How much memory bodies may hold until they are parsed, counted without a server."""

import asyncio
import zlib

import pytest

from quorate.deployments.errors import BodySizeError, OverloadedError, RequestError
from quorate.deployments.server.http import bodies, compression
from quorate.deployments.server.http.bodies import BodyMemory, IncomingBody

DEFLATE = [(b"content-encoding", b"deflate")]


def receive_of(*chunks, hangs_up=False):
    """An ASGI ``receive`` that brings these chunks."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if hangs_up:
        messages.append({"type": "http.disconnect"})
    else:
        messages[-1]["more_body"] = False
    waiting = iter(messages)

    async def receive():
        return next(waiting)

    return receive


async def read(memory, *chunks, headers=(), hangs_up=False):
    """The JSON part, and what was held while it was parsed."""
    with IncomingBody(memory) as incoming:
        body = await incoming.read(list(headers), receive_of(*chunks, hangs_up=hangs_up))
        assert body.json is not None
        return bytes(body.json), memory.held_bytes


@pytest.mark.parametrize("chunks", [[b"x" * 100], [b"x" * 60, b"x" * 40]])
def test_a_body_is_held_until_it_is_parsed_however_it_arrives(chunks):
    memory = BodyMemory()
    assert asyncio.run(read(memory, *chunks)) == (b"x" * 100, 100)
    assert memory.held_bytes == 0


@pytest.mark.parametrize("chunks", [[b"x" * 60], [b"x" * 30, b"x" * 30]])
def test_a_body_is_refused_when_others_hold_the_memory(chunks):
    memory = BodyMemory(limit_bytes=100)
    with IncomingBody(memory) as other:
        asyncio.run(other.read([], receive_of(b"y" * 50)))
        with pytest.raises(OverloadedError, match="limit of 100"):
            asyncio.run(read(memory, *chunks))
        assert memory.held_bytes == 50
    assert asyncio.run(read(memory, *chunks))[1] == 60


def test_an_unpacked_body_is_held_in_place_of_the_packed_one():
    plain = bytes(50_000)
    memory = BodyMemory()
    assert asyncio.run(read(memory, zlib.compress(plain), headers=DEFLATE)) == (plain, 50_000)
    assert memory.held_bytes == 0


def test_a_body_that_unpacks_beyond_the_memory_of_all_is_refused_on_the_way(monkeypatch):
    monkeypatch.setattr(compression, "UNPACK_PIECE_BYTES", 1000)
    memory = BodyMemory(limit_bytes=10_000)
    with pytest.raises(OverloadedError):
        asyncio.run(read(memory, zlib.compress(bytes(1_000_000)), headers=DEFLATE))
    assert memory.held_bytes == 0


def test_a_body_is_too_long_packed_or_unpacked(monkeypatch):
    monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 1000)
    with pytest.raises(BodySizeError, match="is"):
        asyncio.run(read(BodyMemory(), b"x" * 1001))
    with pytest.raises(BodySizeError, match="unpacks to"):
        asyncio.run(read(BodyMemory(), zlib.compress(bytes(1001)), headers=DEFLATE))


@pytest.mark.parametrize("piece_bytes", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize("size", [0, 1, 999, 1000, 5000])
def test_a_body_unpacks_to_the_same_in_pieces_of_any_size(monkeypatch, piece_bytes, size):
    monkeypatch.setattr(compression, "UNPACK_PIECE_BYTES", piece_bytes)
    plain = bytes(number % 251 for number in range(size))
    for coding in (b"deflate", b"gzip"):
        packed = compression._pack(plain, coding)
        assert asyncio.run(compression.unpack(packed, coding, lambda _: None)) == plain


@pytest.mark.parametrize("broken", [b"", zlib.compress(b"x" * 99)[:-1], zlib.compress(b"x") + b"y", b"no zlib"])
def test_a_body_that_is_not_what_its_coding_says_is_refused_and_holds_nothing(broken):
    memory = BodyMemory()
    with pytest.raises(RequestError, match="pack it again"):
        asyncio.run(read(memory, broken, headers=DEFLATE))
    assert memory.held_bytes == 0


def test_a_client_that_hangs_up_leaves_nothing_held():
    memory = BodyMemory()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(read(memory, b"x" * 100, hangs_up=True))
    assert memory.held_bytes == 0
