"""Messages on a connection, the same over a Unix socket and over TCP, on both event loops that it may live on."""

import asyncio
import contextlib
import os
from typing import Any

import numpy as np
import pytest
import uvloop

from quorate.deployments.transport import connection as connection_module
from quorate.deployments.transport.connection import MAX_UNREAD_BYTES
from quorate.deployments.transport.keys import ClusterKeys
from quorate.deployments.transport.tcp import TcpListener, connect_tcp
from quorate.deployments.transport.unix import UnixListener, connect_unix

KEYS = ClusterKeys.make()
LARGE = np.random.default_rng(0).bytes(5_000_000)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine function on an event loop of its own."""

    def run(scenario):
        with contextlib.closing(request.param()) as loop:
            loop.run_until_complete(asyncio.wait_for(scenario(), 60))

    return run


@pytest.fixture(params=["unix", "tcp"])
def listening(request, tmp_path):
    """Makes a listener, and a function that connects to it."""

    def make():
        if request.param == "unix":
            return UnixListener(tmp_path / "member"), lambda *calls: connect_unix(tmp_path / "member", *calls)
        listener = TcpListener("127.0.0.1", KEYS.for_server())
        return listener, lambda *calls: connect_tcp("127.0.0.1", listener.port, KEYS.for_client(), *calls)

    return make


class End:
    """What one end was told."""

    def __init__(self):
        self._messages, self._lost = asyncio.Queue[Any](), asyncio.Queue[Any]()

    def calls(self):
        return (lambda *message: self._messages.put_nowait(message), self._lost.put_nowait)

    async def message(self):
        """The next connection and message."""
        connection, frames = await self._messages.get()
        return connection, [bytes(frame) for frame in frames]

    async def lost(self):
        return await self._lost.get()

    def heard(self):
        return not (self._messages.empty() and self._lost.empty())


@contextlib.asynccontextmanager
async def connected(listening):
    """A connection, what its end was told, and the same of the other end."""
    listener, connect = listening()
    far, near = End(), End()
    await listener.open(*far.calls())
    connection = connect(*near.calls())
    connection.send([b"hello"])  # nothing is connected yet
    other, greeting = await far.message()
    assert greeting == [b"hello"]
    try:
        yield connection, near, other, far
    finally:
        connection.close()
        await listener.close()
        await connection.ended


def test_messages_arrive_complete_and_in_order_both_ways(run, listening):
    messages = [[b""], [b"small", b"er"], [b"head", LARGE, b"tail"], [LARGE[:70_000]], [b"last"]]

    async def scenario():
        async with connected(listening) as (connection, near, other, far):
            for sender, end in ((connection, far), (other, near)):
                for message in messages:
                    sender.send(message)
                assert [(await end.message())[1] for _ in messages] == messages

    run(scenario)


def test_nobody_who_listens_is_a_loss(run, listening):
    async def scenario():
        listener, connect = listening()
        await listener.open(*End().calls())
        await listener.close()
        near = End()
        connection = connect(*near.calls())
        connection.send([b"hello"])
        assert await near.lost() is connection
        connection.send([b"into the void"])
        await asyncio.sleep(0)
        assert not near.heard()

    run(scenario)


def test_connection_that_is_closed_tells_the_other_end_only(run, listening):
    async def scenario():
        async with connected(listening) as (connection, near, other, far):
            connection.close()
            assert await far.lost() is other
            await connection.ended
            assert not near.heard()

    run(scenario)


def test_connection_closed_before_it_was_made_calls_nobody(run, listening):
    async def scenario():
        listener, connect = listening()
        far, near = End(), End()
        await listener.open(*far.calls())
        connection = connect(*near.calls())
        connection.close()
        await connection.ended
        await listener.close()
        assert not near.heard()

    run(scenario)


def test_listener_that_closes_sends_what_is_unsent(run, listening, monkeypatch):
    monkeypatch.setattr(connection_module, "FLUSH_S", 30.0)

    async def scenario():
        listener, connect = listening()
        far, near = End(), End()
        await listener.open(*far.calls())
        connect(*near.calls()).send([b"hello"])
        other, _ = await far.message()
        for _ in range(4):
            other.send([LARGE])
        await listener.close()
        assert [(await near.message())[1] for _ in range(4)] == [[LARGE]] * 4
        await near.lost()
        assert not far.heard()

    run(scenario)


def test_peer_that_reads_nothing_is_cut_and_what_waited_for_it_is_let_go(run, listening):
    async def scenario():
        async with connected(listening) as (connection, near, other, _):
            other._transport.pause_reading()
            sent = 0
            while not near.heard():
                connection.send([LARGE])
                sent += len(LARGE)
                assert sent < 2 * MAX_UNREAD_BYTES
                await asyncio.sleep(0)
            assert await near.lost() is connection
            assert sent > MAX_UNREAD_BYTES
            assert not connection._unsent

    run(scenario)


def test_a_message_of_any_size_may_wait_before_others(run, listening, monkeypatch):
    monkeypatch.setattr(connection_module, "MAX_UNREAD_BYTES", 1 << 20)

    async def scenario():
        async with connected(listening) as (connection, near, other, far):
            other._transport.pause_reading()
            connection.send([bytes(20 << 20)])
            for _ in range(10):
                connection.send([b"small"])
                await asyncio.sleep(0)
            assert not near.heard()
            other._transport.resume_reading()
            assert len((await far.message())[1][0]) == 20 << 20
            assert (await far.message())[1] == [b"small"]

    run(scenario)


@pytest.mark.long
def test_who_waits_for_room_hears_of_it_and_is_never_cut(run, listening):
    async def scenario():
        async with connected(listening) as (connection, near, other, far):
            left = [LARGE] * (2 * MAX_UNREAD_BYTES // len(LARGE))

            def send():
                while left and connection.unsent_bytes < len(LARGE):
                    connection.send([left.pop()])

            connection.room = send
            other._transport.pause_reading()
            send()
            await asyncio.sleep(0.05)
            assert left
            other._transport.resume_reading()
            for _ in range(2 * MAX_UNREAD_BYTES // len(LARGE)):
                assert len((await far.message())[1][0]) == len(LARGE)
            assert not near.heard()
            assert connection.unsent_bytes == 0

    run(scenario)


def test_half_a_message_is_not_delivered(run, listening):
    async def scenario():
        async with connected(listening) as (connection, _, other, far):
            connection._write(b"QST1" + (1).to_bytes(4, "little") + (1 << 30).to_bytes(8, "little") + b"half")
            connection.finish()
            assert await far.lost() is other
            assert not far.heard()

    run(scenario)


def test_garbage_of_a_proven_peer_cuts_its_connection(run, listening):
    async def scenario():
        async with connected(listening) as (connection, near, other, far):
            connection._write(b"neither fish nor flesh")
            assert await far.lost() is other
            assert await near.lost() is connection

    run(scenario)


def test_connecting_again_and_again_leaves_no_descriptor_open(run, listening):
    async def scenario():
        listener, connect = listening()
        far = End()
        await listener.open(*far.calls())
        opened = set()
        for _ in range(20):
            connection = connect(*End().calls())
            connection.send([b"hello"])
            await far.message()
            opened.add(len(os.listdir("/proc/self/fd")))
            connection.close()
            await connection.ended
            await far.lost()
        await listener.close()
        assert max(opened) - min(opened) <= 2  # a socket may be closed a turn of the loop later
        assert not listener._connections

    run(scenario)
