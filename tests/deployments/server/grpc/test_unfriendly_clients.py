"""What clients do to the gRPC door that flood, stall, err, never read or vanish: each is cut off alone."""

import contextlib
import select
import socket
import struct
import time

import psutil
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from quorate.deployments.server import connection_limits
from quorate.deployments.server.grpc import call as calls
from quorate.deployments.server.grpc import connection
from quorate.deployments.wire import open_inference_pb2 as pb
from tests.deployments.support.http2_client import INFER, Http2Client, infer_request, prefixed
from tests.deployments.support.lines import is_closed
from tests.deployments.support.waiting import until

MESSAGE = infer_request()
LIVE = "/inference.GRPCInferenceService/ServerLive"
OK, LATE = 0, 4


@pytest.fixture(scope="module")
def wide(open_doors):
    """Answers each request with 400 kB."""
    member = {"model": "known:wide", "config": {"columns": 100_000}, "inputs": ["x"], "output": "values"}
    spec = {"name": "pair", "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "members": {"m": member}}
    return open_doors({**spec, "fusion": {"rule": "mean"}})


@pytest.mark.long
def test_an_answer_that_nobody_reads_is_given_up(wide, monkeypatch):
    monkeypatch.setattr(connection, "UNREAD_S", 0.5)
    with Http2Client(wide.grpc, {SettingCodes.INITIAL_WINDOW_SIZE: 1000}) as client:
        streams = [client.call(MESSAGE) for _ in range(3)]
        client.flush()
        until(lambda: wide.service.budget.held_bytes >= 3 * 400_000)
        with Http2Client(wide.grpc) as other:
            assert other.status(other.call(MESSAGE))[0] == OK
        client.h2.acknowledge_received_data = lambda *_: None  # what is read makes no room
        for stream in streams:
            code, sentence = client.status(stream)
            assert code == LATE
            assert "not read in time" in sentence
    until(lambda: not wide.service.budget.held_bytes)


def test_an_answer_longer_than_the_clients_window_comes_as_it_reads(wide):
    with Http2Client(wide.grpc, {SettingCodes.INITIAL_WINDOW_SIZE: 5000}) as client:
        streams = [client.call(MESSAGE) for _ in range(3)]
        assert {client.status(stream) for stream in streams} == {(OK, "")}
        for stream in streams:
            (message,) = client.messages(stream)
            assert pb.ModelInferResponse.FromString(message).outputs[0].shape == [1, 100_000]


def test_a_message_that_stops_coming_ends_its_call(pair, client, monkeypatch):
    monkeypatch.setattr(calls, "ARRIVAL_S", 0.3)
    begun, stopped = client.begin(), client.begin()
    client.h2.send_data(stopped, prefixed(MESSAGE)[:20])
    for stream in (begun, stopped):
        code, sentence = client.status(stream)
        assert code == LATE
        assert "did not arrive" in sentence
    assert client.status(client.call(MESSAGE))[0] == OK
    assert pair.service.budget.held_bytes == 0


def test_a_client_that_is_gone_without_a_word_is_noticed(pair, monkeypatch):
    monkeypatch.setattr(connection, "KEEPALIVE_S", 0.3)
    with Http2Client(pair.grpc) as client:
        client.read_until(lambda: client.status(client.call(MESSAGE, LIVE)))
        assert is_closed(client.socket)  # it does not answer pings


@pytest.mark.parametrize("flood", ["pings", "settings", "empty data"])
def test_a_client_that_keeps_the_door_busy_with_nothing_is_cut_off(pair, client, flood):
    stream = client.begin()
    client.read_until(lambda: client.h2.remote_settings.initial_window_size > 1 << 20)
    frames = {
        "pings": struct.pack(">I", 8)[1:] + b"\x06\0" + bytes(4) + bytes(8),
        "settings": bytes(3) + b"\x04\0" + bytes(4),
        "empty data": bytes(3) + b"\0\0" + struct.pack(">I", stream),
    }
    with contextlib.suppress(ConnectionError):
        for _ in range(20):
            client.socket.sendall(frames[flood] * 100)
    client.read_until(lambda: False)
    assert client.gone in (ErrorCodes.ENHANCE_YOUR_CALM, None)  # None where the connection was reset first
    with Http2Client(pair.grpc) as other:
        assert other.status(other.call(MESSAGE))[0] == OK


def test_a_frame_longer_than_allowed_is_not_waited_for(pair, client):
    stream = client.begin()
    client.flush()
    client.socket.sendall(struct.pack(">I", 16 << 20)[1:] + b"\0\0" + struct.pack(">I", stream))
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 16 << 20:
            sent += client.socket.send(bytes(16 << 10))
            select.select([client.socket], [], [], 0.001)
    assert sent < 8 << 20
    assert pair.service.budget.held_bytes == 0


def from_peer(doors, address):
    host, port = doors.grpc.split(":")
    return socket.create_connection((host, int(port)), timeout=20, source_address=(address, 0))


def test_idle_connections_of_one_peer_shut_nobody_out(pair, monkeypatch):
    monkeypatch.setattr(connection_limits, "MAX_CONNECTIONS", 40)
    greedy = [from_peer(pair, "127.0.0.7") for _ in range(45)]
    with Http2Client(pair.grpc) as modest:
        assert modest.status(modest.call(MESSAGE))[0] == OK
        assert modest.status(modest.call(MESSAGE))[0] == OK
    assert sum(is_closed(line) for line in greedy[:5]) >= 5
    for line in greedy:
        line.close()


@pytest.mark.parametrize("path", [INFER, "/inference.GRPCInferenceService/NoSuchRpc"])
def test_what_a_client_still_sends_of_a_call_that_is_refused_ends_no_other_call(client, slow, path):
    """A client hears of a refusal a way there and back later, and has sent megabytes by then."""
    other = client.call(MESSAGE)
    client.read_until(lambda: client.h2.remote_settings.max_frame_size > 16384)
    refused = client.begin(path)
    client.h2.send_data(refused, b"\x02" + bytes(1000))  # begins as no message does
    client.call(MESSAGE)
    for _ in range(1500):
        client.h2.send_data(refused, bytes(1000))
    client.flush()
    slow.go.set()
    assert client.status(other) == (OK, "")
    assert client.status(client.call(MESSAGE)) == (OK, "")


def test_data_after_its_end_ends_a_call_and_no_other(client, slow):
    other, stream = client.call(MESSAGE), client.call(MESSAGE)
    client.flush()
    until(lambda: slow.waiting == 2)
    client.socket.sendall(bytes(2) + b"\1\0\0" + struct.pack(">I", stream) + b"x")
    until(lambda: slow.waiting == 1)
    slow.go.set()
    assert client.status(other) == (OK, "")


def test_empty_frames_for_a_call_that_is_over_are_counted_like_others(client):
    stream = client.call(MESSAGE)
    assert client.status(stream) == (OK, "")
    with contextlib.suppress(ConnectionError):
        for _ in range(20):
            client.socket.sendall((bytes(3) + b"\0\0" + struct.pack(">I", stream)) * 100)
    client.read_until(lambda: False)
    assert client.closed


@pytest.mark.long
def test_an_answer_of_which_a_client_takes_a_byte_now_and_then_is_given_up_and_no_other(wide, monkeypatch):
    monkeypatch.setattr(connection, "UNREAD_S", 0.5)
    with Http2Client(wide.grpc, {SettingCodes.INITIAL_WINDOW_SIZE: 1000}) as client:
        client.h2.acknowledge_received_data, acknowledge = lambda *_: None, client.h2.acknowledge_received_data
        stream = client.call(MESSAGE)
        client.flush()
        until(lambda: wide.service.budget.held_bytes >= 400_000)
        while stream not in client.ended:
            client.h2.increment_flow_control_window(1, stream)
            client.h2.increment_flow_control_window(1)
            client.read(timeout_s=0.1)
            time.sleep(0.05)
        code, sentence = client.status(stream)
        assert code == LATE
        assert "not read in time" in sentence
        monkeypatch.setattr(connection, "UNREAD_S", 60.0)
        client.h2.acknowledge_received_data = acknowledge
        assert client.status(client.call(MESSAGE)) == (OK, "")


def unread(doors, stack):
    """A client that has megabytes of answers to read and reads nothing, and its calls."""
    most = 2**31 - 1
    client = stack.enter_context(Http2Client(doors.grpc, {SettingCodes.INITIAL_WINDOW_SIZE: most}))
    client.h2.increment_flow_control_window(most - 65535)
    streams = [client.call(MESSAGE) for _ in range(60)]
    client.flush()
    until(lambda: doors.service.budget.held_bytes >= 10 * 400_000)  # more than buffers on the way can take
    return client, streams


def is_connected(client):
    """Whether the server holds its end of a connection."""
    here = client.socket.getsockname()
    return any(line.raddr == here for line in psutil.Process().net_connections("tcp") if line.fd != -1)


@pytest.mark.long
def test_a_client_that_errs_and_reads_nothing_costs_the_door_nothing_but_its_connection(wide, monkeypatch):
    with contextlib.ExitStack() as stack:
        client, _ = unread(wide, stack)
        monkeypatch.setattr(connection, "KEEPALIVE_S", 0.5)
        client.socket.sendall(b"\xff" * 100)  # no frame
        until(lambda: not is_connected(client))
    with Http2Client(wide.grpc) as other:  # the door still looks after its connections
        other.read_until(lambda: other.status(other.call(MESSAGE, LIVE)))
        assert is_closed(other.socket)
    until(lambda: not wide.service.budget.held_bytes)


@pytest.mark.long
def test_an_idle_connection_that_gives_way_is_closed_though_its_client_reads_nothing(wide, monkeypatch):
    with contextlib.ExitStack() as stack:
        client, streams = unread(wide, stack)
        for stream in streams:
            client.h2.reset_stream(stream)
        client.flush()
        until(lambda: not wide.service.budget.held_bytes)
        monkeypatch.setattr(connection_limits, "MAX_CONNECTIONS_PER_PEER", 1)
        other = stack.enter_context(Http2Client(wide.grpc))
        assert other.status(other.call(MESSAGE, LIVE)) == (OK, "")
        assert is_connected(client)
        monkeypatch.setattr(connection, "KEEPALIVE_S", 0.5)
        until(lambda: not is_connected(client))
