"""What clients do to the gRPC door's connections, well and ill: each is answered, or cut off alone."""

import asyncio
import contextlib
import select
import socket
import struct
import threading
import time

import grpc
import numpy as np
import psutil
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from quorate.deployments.server import connection_limits
from quorate.deployments.server.grpc import call as calls
from quorate.deployments.server.grpc import connection, lobby
from quorate.deployments.server.service import Service
from quorate.deployments.wire import open_inference_pb2 as pb
from tests.deployments.support.http2_client import INFER, Http2Client, prefixed

ROWS = np.array([[0.5, -1.0]], np.float32)
LIVE = "/inference.GRPCInferenceService/ServerLive"
OK, INVALID, LATE, FULL, UNIMPLEMENTED = 0, 3, 4, 8, 12


def infer_request(rows=ROWS, model="pair"):
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[rows.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    return request.SerializeToString()


MESSAGE = infer_request()


@pytest.fixture
def client(pair):
    with Http2Client(pair.grpc) as client:
        yield client


@pytest.fixture
def slow(monkeypatch):
    """Inference waits until ``slow.go`` is set; ``slow.waiting`` counts those that have begun."""

    class Slow:
        go, waiting = threading.Event(), 0

    infer = Service.infer

    async def wait(service, request, hold):
        Slow.waiting += 1
        try:
            while not Slow.go.is_set():  # noqa: ASYNC110  set on another thread
                await asyncio.sleep(0.005)
            return await infer(service, request, hold)
        finally:
            Slow.waiting -= 1

    monkeypatch.setattr(Service, "infer", wait)
    yield Slow
    Slow.go.set()


def until(condition):
    tried = threading.Event()
    for _ in range(2000):
        if condition():
            return
        tried.wait(0.01)
    raise AssertionError("it did not come to pass")


def test_calls_that_come_in_together_are_under_way_together(client, slow):
    """As many in one packet would take grpc.aio two turns of the event loop each before the last had begun."""
    streams = [client.call(MESSAGE) for _ in range(100)]
    client.flush()
    until(lambda: slow.waiting == 100)
    slow.go.set()
    assert {client.status(stream) for stream in streams} == {(OK, "")}


def test_a_client_that_begins_no_more_calls_is_answered_those_that_it_has_begun(pair, client, slow):
    """RFC 9113, 6.8: a GOAWAY of the client's speaks of streams that the server would begin."""
    stream = client.call(MESSAGE)
    client.flush()
    until(lambda: slow.waiting)
    goaway = struct.pack(">I", 8)[1:] + b"\x07\0" + bytes(4) + struct.pack(">II", 0, 0)
    client.socket.sendall(goaway)
    slow.go.set()
    assert client.status(stream) == (OK, "")


def test_a_door_that_closes_answers_what_came_in_and_sends_the_client_elsewhere(open_doors, pair_spec, slow):
    doors = open_doors(pair_spec)
    with Http2Client(doors.grpc) as client:
        stream = client.call(MESSAGE)
        client.flush()
        until(lambda: slow.waiting)
        stopping = threading.Thread(target=doors.server.stop)
        stopping.start()
        host, port = doors.grpc.split(":")
        until(lambda: is_refused(host, int(port)))
        slow.go.set()
        assert client.status(stream) == (OK, "")
        client.read_until(lambda: client.gone is not None)
        assert client.gone == ErrorCodes.NO_ERROR
    stopping.join()


def is_refused(host, port):
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return True
    return False


def test_a_call_that_outlives_the_doors_grace_is_told_to_go_elsewhere(open_doors, pair_spec, slow, monkeypatch):
    monkeypatch.setattr("quorate.deployments.server.fusion_server.GRPC_GRACE_S", 0.1)
    doors = open_doors(pair_spec)
    with Http2Client(doors.grpc) as client:
        stream = client.call(MESSAGE)
        client.flush()
        until(lambda: slow.waiting)
        stopping = threading.Thread(target=doors.server.stop)
        stopping.start()
        code, sentence = client.status(stream)
        stopping.join()
    assert code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert "the server stops" in sentence


def test_a_call_that_the_client_gives_up_is_given_up_here(pair, client, slow):
    stream = client.call(MESSAGE)
    client.flush()
    until(lambda: slow.waiting == 1)
    client.h2.reset_stream(stream, ErrorCodes.CANCEL)
    client.flush()
    until(lambda: slow.waiting == 0)
    slow.go.set()
    assert client.status(client.call(MESSAGE))[0] == OK


def test_a_client_that_hangs_up_gives_up_all_its_calls(pair, slow):
    with Http2Client(pair.grpc) as client:
        for _ in range(20):
            client.call(MESSAGE)
        client.flush()
        until(lambda: slow.waiting == 20)
    until(lambda: slow.waiting == 0)


def test_a_deadline_ends_the_call_with_its_status(client, slow):
    code, sentence = client.status(client.call(MESSAGE, grpc_timeout="50m"))
    assert code == LATE
    assert "deadline" in sentence
    until(lambda: slow.waiting == 0)


@pytest.mark.parametrize("timeout", ["", "5", "m", "123456789S", "1.5S", "-1S", "5x"])
def test_a_timeout_that_is_none_is_refused_in_words(client, timeout):
    code, sentence = client.status(client.call(MESSAGE, grpc_timeout=timeout))
    assert code == INVALID
    assert "grpc-timeout" in sentence


def test_a_message_may_come_byte_by_byte(client):
    stream = client.begin()
    for byte in prefixed(MESSAGE):
        client.h2.send_data(stream, bytes([byte]))
        client.flush()
    client.h2.end_stream(stream)
    assert client.status(stream) == (OK, "")


def test_messages_of_a_stream_may_come_in_one_frame(client):
    stream = client.begin("/inference.GRPCInferenceService/ModelStreamInfer")
    client.h2.send_data(stream, prefixed(MESSAGE) * 30, end_stream=True)
    assert client.status(stream) == (OK, "")
    replies = [pb.ModelStreamInferResponse.FromString(message) for message in client.messages(stream)]
    assert [len(reply.infer_response.raw_output_contents) for reply in replies] == [1] * 30


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "has no message"),
        (prefixed(MESSAGE)[:-1], "within a message"),
        (b"\0\0", "within a message"),
        (prefixed(MESSAGE) * 2, "one message"),
        (b"\x02" + prefixed(MESSAGE)[1:], "begins with the byte 2"),
        (prefixed(b"\xff" * 9), "is no inference.ModelInferRequest"),
        (prefixed(MESSAGE, packed=1), "gzip"),
    ],
    ids=range(7),
)
def test_a_body_that_is_not_one_message_is_refused_in_words(client, body, sentence):
    stream = client.begin(grpc_encoding="gzip")
    client.h2.send_data(stream, body, end_stream=True)
    code, found = client.status(stream)
    assert code == INVALID
    assert sentence in found
    assert client.status(client.call(MESSAGE))[0] == OK


def test_packed_messages_are_unpacked(pair):
    for coding in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        with grpc.insecure_channel(pair.grpc) as channel:
            infer = channel.unary_unary(INFER, response_deserializer=pb.ModelInferResponse.FromString)
            rows = np.zeros((500, 2), np.float32)
            assert infer(infer_request(rows), timeout=20, compression=coding).outputs[0].shape == [500, 3]


def test_messages_packed_in_a_way_unknown_here_are_refused_with_those_that_are_known(client):
    stream = client.call(MESSAGE, grpc_encoding="snappy")
    code, sentence = client.status(stream)
    assert code == UNIMPLEMENTED
    assert "snappy" in sentence
    assert client.headers[stream]["grpc-accept-encoding"] == "identity,deflate,gzip"


def test_sentences_in_any_language_reach_the_client(pair):
    with grpc.insecure_channel(pair.grpc) as channel:
        call = channel.unary_unary(INFER).future(infer_request(model="çok güzel 100%\n模型"), timeout=20)
        assert "çok güzel 100%\n模型" in call.details()


def test_what_is_no_grpc_is_told_so(pair, client):
    stream = client.begin(content_type="application/json")
    client.h2.end_stream(stream)
    client.read_until(lambda: stream in client.ended)
    assert client.headers[stream] == {":status": "415"}
    host, port = pair.grpc.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall(b"GET /v2 HTTP/1.1\r\nHost: here\r\n\r\n")
        assert b"HTTP/1.1" not in read_all(line)


def read_all(line):
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while data := line.recv(65536):
            found += data
    return found


def test_more_calls_than_the_door_takes_are_refused_and_the_rest_answered(client, slow, monkeypatch):
    monkeypatch.setattr(lobby, "MAX_CALLS", 5)
    streams = [client.call(MESSAGE) for _ in range(8)]
    client.flush()
    until(lambda: slow.waiting == 5)
    slow.go.set()
    codes = [client.status(stream)[0] for stream in streams]
    assert sorted(codes) == [OK] * 5 + [FULL] * 3
    assert client.status(client.call(MESSAGE))[0] == OK


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
        assert is_hung_up(client.socket)  # it does not answer pings


def is_hung_up(line):
    return read_all(line) is not None


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


def is_closed(line):
    line.settimeout(0.2)
    try:
        while line.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionResetError:
        pass
    return True


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
        assert is_hung_up(other.socket)
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


def test_calls_that_are_begun_and_given_up_while_the_door_closes_end_no_other(open_doors, pair_spec, slow):
    doors = open_doors(pair_spec)
    with Http2Client(doors.grpc) as client:
        stream = client.call(MESSAGE)
        client.flush()
        until(lambda: slow.waiting)
        stopping = threading.Thread(target=doors.server.stop)
        stopping.start()
        client.read_until(lambda: client.gone is not None)
        client.read(timeout_s=0.2)  # the ping that says from when on the server begins no more; it is answered
        for _ in range(10):
            client.h2.reset_stream(client.call(MESSAGE))
        client.flush()
        slow.go.set()
        assert client.status(stream) == (OK, "")
    stopping.join()
