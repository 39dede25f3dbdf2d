"""How much memory bodies may hold until they are parsed, counted without a server."""

import asyncio
import threading
import zlib

import pytest

from quorate.deployments.errors import BodySizeError, OverloadedError, RequestError
from quorate.deployments.memory_budget import MemoryBudget
from quorate.deployments.server import compression
from quorate.deployments.server.heavy_work import HeavyWork
from quorate.deployments.server.http import bodies
from quorate.deployments.server.http.bodies import IncomingBody
from quorate.deployments.wire.inference import Body

HEAVY = HeavyWork()
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
    with IncomingBody(memory, HEAVY) as incoming:
        body = await incoming.read(list(headers), receive_of(*chunks, hangs_up=hangs_up))
        assert body.json is not None
        return bytes(body.json), memory.held_bytes


@pytest.mark.parametrize("chunks", [[b"x" * 100], [b"x" * 60, b"x" * 40]])
def test_a_body_is_held_until_it_is_parsed_however_it_arrives(chunks):
    memory = MemoryBudget(1 << 20)
    assert asyncio.run(read(memory, *chunks)) == (b"x" * 100, 100)
    assert memory.held_bytes == 0


@pytest.mark.parametrize("chunks", [[b"x" * 60], [b"x" * 30, b"x" * 30]])
def test_a_body_is_refused_when_others_hold_the_memory(chunks):
    memory = MemoryBudget(100)
    with IncomingBody(memory, HEAVY) as other:
        asyncio.run(other.read([], receive_of(b"y" * 50)))
        with pytest.raises(OverloadedError, match="limit of 100"):
            asyncio.run(read(memory, *chunks))
        assert memory.held_bytes == 50
    assert asyncio.run(read(memory, *chunks))[1] == 60


def test_an_unpacked_body_is_held_in_place_of_the_packed_one():
    plain = bytes(50_000)
    memory = MemoryBudget(1 << 20)
    assert asyncio.run(read(memory, zlib.compress(plain), headers=DEFLATE)) == (plain, 50_000)
    assert memory.held_bytes == 0


def test_a_body_that_unpacks_beyond_the_memory_of_all_is_refused_on_the_way(monkeypatch):
    monkeypatch.setattr(compression, "UNPACK_PIECE_BYTES", 1000)
    memory = MemoryBudget(10_000)
    with pytest.raises(OverloadedError):
        asyncio.run(read(memory, zlib.compress(bytes(1_000_000)), headers=DEFLATE))
    assert memory.held_bytes == 0


def test_a_body_is_too_long_packed_or_unpacked(monkeypatch):
    monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 1000)
    with pytest.raises(BodySizeError, match="is"):
        asyncio.run(read(MemoryBudget(1 << 20), b"x" * 1001))
    with pytest.raises(BodySizeError, match="unpacks to"):
        asyncio.run(read(MemoryBudget(1 << 20), zlib.compress(bytes(1001)), headers=DEFLATE))


@pytest.mark.parametrize("piece_bytes", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize("size", [0, 1, 999, 1000, 5000])
def test_a_body_unpacks_to_the_same_in_pieces_of_any_size(monkeypatch, piece_bytes, size):
    monkeypatch.setattr(compression, "UNPACK_PIECE_BYTES", piece_bytes)
    plain = bytes(number % 251 for number in range(size))
    for coding in (b"deflate", b"gzip"):
        packed = compression._pack(plain, coding)
        assert asyncio.run(compression.unpack(packed, coding, lambda _: None, HEAVY)) == plain


@pytest.mark.parametrize("broken", [b"", zlib.compress(b"x" * 99)[:-1], zlib.compress(b"x") + b"y", b"no zlib"])
def test_a_body_that_is_not_what_its_coding_says_is_refused_and_holds_nothing(broken):
    memory = MemoryBudget(1 << 20)
    with pytest.raises(RequestError, match="pack it again"):
        asyncio.run(read(memory, broken, headers=DEFLATE))
    assert memory.held_bytes == 0


def test_a_client_that_hangs_up_leaves_nothing_held():
    memory = MemoryBudget(1 << 20)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(read(memory, b"x" * 100, hangs_up=True))
    assert memory.held_bytes == 0


def test_a_body_is_refused_at_what_the_model_can_need_packed_or_not():
    memory = MemoryBudget(1 << 20)
    for chunk, headers in ((b"x" * 101, []), (zlib.compress(bytes(101)), DEFLATE)):
        with IncomingBody(memory, HEAVY, 100) as incoming, pytest.raises(BodySizeError, match="over 100 bytes"):
            asyncio.run(incoming.read(headers, receive_of(chunk)))
    assert memory.held_bytes == 0


@pytest.mark.parametrize("size", [10, 2 << 20])
def test_what_parsing_takes_counts_while_it_lasts(size):
    memory, seen = MemoryBudget(1 << 30), []
    text = b"[" + b"1," * (size // 2) + b"1]"

    async def parse():
        with IncomingBody(memory, HEAVY) as incoming:
            body = await incoming.read([], receive_of(text))
            await incoming.parse(body, lambda: seen.append((memory.held_bytes, threading.current_thread())))
            return memory.held_bytes

    after = asyncio.run(parse())
    held, thread = seen[0]
    assert held == len(text) + size // 2 * bodies.PARSED_BYTES_PER_NUMBER
    assert after == len(text) + size // 2 * 8
    assert (thread is threading.main_thread()) == (size == 10)
    assert memory.held_bytes == 0


def test_a_body_that_would_take_too_much_parsed_is_refused_before():
    memory = MemoryBudget(10_000)
    with IncomingBody(memory, HEAVY) as incoming, pytest.raises(OverloadedError):
        asyncio.run(incoming.parse(Body(b"1," * 1000), pytest.fail))
