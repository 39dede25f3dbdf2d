"""Calls of the gRPC door from their first byte to their status: answered, given up, or refused in words."""

import socket
import struct
import threading

import grpc
import numpy as np
import pytest
from h2.errors import ErrorCodes

from quorate.deployments.server.grpc import lobby
from quorate.deployments.wire import open_inference_pb2 as pb
from tests.deployments.support.http2_client import INFER, Http2Client, infer_request, prefixed
from tests.deployments.support.lines import is_refused, read_all
from tests.deployments.support.waiting import until

MESSAGE = infer_request()
LIVE = "/inference.GRPCInferenceService/ServerLive"
OK, INVALID, LATE, FULL, UNIMPLEMENTED = 0, 3, 4, 8, 12


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
        until(lambda: is_refused(doors.grpc))
        slow.go.set()
        assert client.status(stream) == (OK, "")
        client.read_until(lambda: client.gone is not None)
        assert client.gone == ErrorCodes.NO_ERROR
    stopping.join()


def test_a_call_that_outlives_the_doors_grace_is_told_to_go_elsewhere(open_doors, pair_spec, slow, monkeypatch):
    monkeypatch.setattr("quorate.deployments.server.fusion_server.GRACE_S", 0.1)
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
    until(lambda: not pair.service.budget.held_bytes)
    assert slow.waiting == 0


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


def test_more_calls_than_the_door_takes_are_refused_and_the_rest_answered(client, slow, monkeypatch):
    monkeypatch.setattr(lobby, "MAX_CALLS", 5)
    streams = [client.call(MESSAGE) for _ in range(8)]
    client.flush()
    until(lambda: slow.waiting == 5)
    slow.go.set()
    codes = [client.status(stream)[0] for stream in streams]
    assert sorted(codes) == [OK] * 5 + [FULL] * 3
    assert client.status(client.call(MESSAGE))[0] == OK


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
