"""Who does not prove that it belongs to the cluster gets no message in, holds no memory, and is cut."""

import asyncio
import contextlib
import os
import socket
import ssl

import pytest

from quorate.deployments.transport import tcp
from quorate.deployments.transport.framing import to_stream
from quorate.deployments.transport.keys import ClusterKeys
from quorate.deployments.transport.tcp import MAX_UNPROVED, TcpListener, connect_tcp
from tests.deployments.transport.test_connection import End

KEYS = ClusterKeys.make()
HELLO = b"".join(to_stream([b"hello"]))


@contextlib.asynccontextmanager
async def listening():
    """A listener and what it was told."""
    listener, far = TcpListener("127.0.0.1", KEYS.for_server()), End()
    await listener.open(*far.calls())
    try:
        yield listener, far
    finally:
        await listener.close()


async def assert_member_lets_in(listener, far):
    connection = connect_tcp("127.0.0.1", listener.port, KEYS.for_client(), lambda *_: None, lambda *_: None)
    connection.send([b"hello"])
    while (await far.message())[1] != [b"hello"]:
        pass
    connection.close()


def plain():
    return lambda connected: connected


def tls(context):
    return lambda connected: context.wrap_socket(connected)


def without_certificate():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return tls(context)


def of_another_cluster():
    context = ClusterKeys.make().for_client()
    context.verify_mode = ssl.CERT_NONE
    return tls(context)


def of_tls_1_2():
    context = KEYS.for_client()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    return tls(context)


@pytest.mark.parametrize("wrap", [plain, without_certificate, of_another_cluster, of_tls_1_2])
def test_peer_that_cannot_prove_itself_is_cut_and_never_heard(wrap):
    def speak(port):
        connected = socket.create_connection(("127.0.0.1", port), 20)
        with connected, contextlib.suppress(OSError), wrap()(connected) as speaking:
            speaking.sendall(HELLO)
            while speaking.recv(100):
                pass

    async def scenario():
        async with listening() as (listener, far):
            await asyncio.to_thread(speak, listener.port)
            assert not any(connection.established for connection in listener._connections)
            await far.lost()
            assert not far.heard()
            await assert_member_lets_in(listener, far)

    asyncio.run(scenario())


def test_garbage_is_cut():
    def speak(port):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port), 20) as connected, contextlib.suppress(ConnectionError):
                connected.sendall(os.urandom(5000))
                while connected.recv(100):
                    pass

    async def scenario():
        async with listening() as (listener, far):
            await asyncio.to_thread(speak, listener.port)
            await assert_member_lets_in(listener, far)

    asyncio.run(scenario())


@pytest.mark.parametrize("words", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "half a greeting"])
def test_peer_that_goes_no_further_is_cut(words, monkeypatch):
    monkeypatch.setattr(tcp, "_TICK_S", 0.01)
    monkeypatch.setattr(tcp._TcpConnection, "handshake_s", 0.05)

    async def scenario():
        async with listening() as (listener, far):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(words)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 20) == b""
            writer.close()
            await far.lost()
            assert not far.heard()

    asyncio.run(scenario())


def test_peer_that_has_proved_itself_may_be_silent(monkeypatch):
    monkeypatch.setattr(tcp, "_TICK_S", 0.01)
    monkeypatch.setattr(tcp._TcpConnection, "handshake_s", 0.05)

    async def scenario():
        async with listening() as (listener, far):
            near = End()
            connection = connect_tcp("127.0.0.1", listener.port, KEYS.for_client(), *near.calls())
            connection.send([b"hello"])
            other, _ = await far.message()
            while other._ticks < 20:  # noqa: ASYNC110 (a connection tells nobody)
                await asyncio.sleep(0.01)
            connection.send([b"still here"])
            assert (await far.message())[1] == [b"still here"]
            connection.close()

    asyncio.run(scenario())


def test_silent_peers_take_no_more_than_their_places_and_keep_nobody_out():
    async def scenario():
        async with listening() as (listener, far):
            writers = []
            for _ in range(MAX_UNPROVED + 20):
                reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
                writers.append((reader, writer))
            for reader, _ in writers[:20]:
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(reader.read(), 20) == b""
            await assert_member_lets_in(listener, far)
            assert len(listener._connections) <= MAX_UNPROVED + 1
            for _, writer in writers:
                writer.close()

    asyncio.run(scenario())


def test_replica_refuses_a_port_that_is_not_of_its_cluster():
    async def scenario():
        async with listening() as (listener, far):
            near = End()
            others = connect_tcp("127.0.0.1", listener.port, ClusterKeys.make().for_client(), *near.calls())
            others.send([b"hello"])
            assert await near.lost() is others
            assert not near.heard()
            await far.lost()
            assert not far.heard()

    asyncio.run(scenario())
