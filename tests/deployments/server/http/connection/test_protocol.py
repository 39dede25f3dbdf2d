"""The HTTP protocol by itself on a wire that remembers, and its limits over real sockets."""

import asyncio
import io
import json
import select
import socket
import time
from typing import Any

import psutil
import pyarrow as pa
import pytest
import uvicorn
from uvicorn.server import ServerState

from quorate.deployments.server import connection_limits
from quorate.deployments.server.http import streams
from quorate.deployments.server.http.connection import joined_writes, protocol
from quorate.deployments.server.http.connection.protocol import JoinedHttpProtocol
from tests.deployments.support.lines import connect, read_all
from tests.deployments.support.waiting import until

HEAD_AND_BODY = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


class Wire(asyncio.Transport):
    """Remembers what is sent, one entry a system call."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.sent.append(data)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def talk(*requests):
    async def run():
        config = uvicorn.Config(
            app, interface="asgi3", lifespan="off", server_header=False, date_header=False, log_config=None
        )  # fmt: skip
        config.load()
        protocol, wire = JoinedHttpProtocol(config, ServerState(), {}), Wire()
        protocol.connection_made(wire)
        for request in requests:
            protocol.data_received(request)
            await asyncio.sleep(0.01)
        closed, wire.closed = wire.closed, True
        protocol.connection_lost(None)
        return wire.sent, closed

    return asyncio.run(run())


def test_head_and_body_of_an_answer_leave_in_one_write():
    assert talk(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == ([HEAD_AND_BODY], False)


def test_pipelined_requests_are_answered_in_order_and_whole():
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    sent, _ = talk(request * 3)
    assert b"".join(sent) == HEAD_AND_BODY * 3


def test_an_answer_that_ends_the_connection_is_sent_before_it_closes():
    sent, closed = talk(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert b"".join(sent).endswith(b"\r\n\r\nhello")
    assert closed


LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n"


def status_and_error(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"] if body else ""


def is_alive(doors):
    with connect(doors.http) as line:
        line.sendall(LIVE + b"Connection: close\r\n\r\n")
        return read_all(line).startswith(b"HTTP/1.1 200")


CHUNKED = b"POST /v2/repository/index HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [LIVE + b"X: " + b"a" * 70_000 + b"\r\nConnection: close\r\n\r\n"],
        [b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nConnection: close\r\n\r\n"],
        [LIVE + b"X: b\r\n" * 200 + b"Connection: close\r\n\r\n"],
        [LIVE + b"X: ", *[b"a" * 5000] * 100],  # a header without an end
        [LIVE, *[b"X: %d\r\n" % i * 500 for i in range(100)]],  # headers without an end
        [b"GET /", *[b"a" * 5000] * 100],
        [
            b"POST /v2/repository/index HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            *[b"X: a\r\n" * 999] * 99,
        ],
        [b"POST /v2/repository/index HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;", *[b"a" * 5000] * 99],
    ],
    ids=["value", "path", "number", "endless value", "endless headers", "endless path", "trailers", "chunk extension"],
)
def test_a_head_that_is_too_large_is_refused_and_the_server_goes_on(pair, pieces):
    with connect(pair.http) as line:
        try:
            for piece in pieces:
                line.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):  # refused before it was all sent
            pass
        answer = read_all(line)
    if answer:  # what was still on its way when the server hung up may have reset the connection
        status, error = status_and_error(answer)
        assert status == 431
        assert "bytes" in error
    assert is_alive(pair)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(protocol, "ARRIVAL_S", 0.3)
    monkeypatch.setattr(protocol, "LINGER_S", 0.1)


POST = b"POST /v2/models/pair/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"


@pytest.mark.parametrize("start", [b"", b"P", LIVE, LIVE + b"X: ", POST, POST + b"{"], ids=len)
def test_a_request_that_stops_coming_ends_its_connection(pair, impatient, start):
    with connect(pair.http) as line:
        line.sendall(start)
        answer = read_all(line)
    assert not start or status_and_error(answer)[0] == 408
    assert is_alive(pair)


def drip(line, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        line.sendall(b" ")
        time.sleep(0.02)


def test_a_request_that_drips_ends_its_connection(pair, impatient):
    with connect(pair.http) as line:
        line.sendall(POST)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            drip(line, 20)


def test_line_ends_between_requests_do_not_hold_a_connection(pair, impatient):
    with connect(pair.http) as line:
        line.sendall(LIVE + b"\r\n")
        assert line.recv(65536).startswith(b"HTTP/1.1 200")
        line.sendall(b"\r\n")
        assert read_all(line) == b""


def test_a_body_that_keeps_coming_has_its_time(pair, impatient):
    body = b'{"inputs": []}'.ljust(8000)
    with connect(pair.http) as line:
        line.sendall(POST.replace(b"100000", b"8000"))
        for at in range(0, 8000, 500):
            line.sendall(body[at : at + 500])
            time.sleep(0.04)
        assert line.recv(65536).startswith(b"HTTP/1.1 400")


@pytest.mark.long
def test_a_stream_that_is_being_answered_may_pause(pair, impatient):
    schema = pa.schema([pa.field("x", pa.list_(pa.float32(), 2))])
    batch = pa.record_batch([pa.array([[0.5, -1.0]], schema[0].type)], schema)
    sink = io.BytesIO()

    def chunk():
        data = sink.getvalue()
        sink.seek(0)
        sink.truncate()
        return b"%x\r\n%s\r\n" % (len(data), data)

    head = b"POST /v2/models/pair/infer HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    with connect(pair.http) as line, pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch)
        line.sendall(head + b"Content-Type: application/vnd.apache.arrow.stream\r\n\r\n" + chunk())
        assert line.recv(65536).startswith(b"HTTP/1.1 200")
        time.sleep(2)  # far longer than a request of so few bytes may take to arrive
        writer.write_batch(batch)
        writer.close()
        line.sendall(chunk() + b"0\r\n\r\n")
        assert read_all(line).endswith(b"\r\n0\r\n\r\n")


def test_what_is_no_http_gets_an_error_in_json(pair):
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"GET /\x00 HTTP/1.1\r\n\r\n"):
        with connect(pair.http) as line:
            line.sendall(garbage)
            status, error = status_and_error(read_all(line))
        assert status == 400
        assert "RFC 9112" in error


def test_two_framings_of_one_body_are_refused(pair):
    """Request smuggling (RFC 9112, 11.2): a proxy in front may have read the other one."""
    head = b"POST /v2/repository/index HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
    two = head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    for request in (two, two.replace(b"Transfer-Encoding: chunked", b"Content-Length: 5")):
        with connect(pair.http) as line:
            line.sendall(request)
            assert status_and_error(read_all(line))[0] == 400


def test_connections_beyond_the_limit_are_refused_in_words(pair, monkeypatch):
    monkeypatch.setattr(connection_limits, "MAX_CONNECTIONS", 40)
    lines = [connect(pair.http) for _ in range(40)]
    for line in lines:
        line.sendall(b"G")  # none of them is idle
        line.sendall(b"E")
    with connect(pair.http) as line:
        line.sendall(LIVE + b"\r\n")
        status, error = status_and_error(read_all(line))
    for line in lines:
        line.close()
    assert status == 503
    assert "40 connections are open" in error


def is_open(line):
    line.settimeout(0.2)
    try:
        return line.recv(1) != b""
    except TimeoutError:
        return True
    except ConnectionResetError:
        return False


def from_peer(doors, address):
    host, port = doors.http.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20, source_address=(address, 0))


def ask_live(line):
    line.settimeout(20)
    line.sendall(LIVE + b"\r\n")
    return line.recv(65536).startswith(b"HTTP/1.1 200")


def test_idle_connections_of_one_peer_shut_nobody_out(pair, monkeypatch):
    monkeypatch.setattr(connection_limits, "MAX_CONNECTIONS", 40)
    greedy = [from_peer(pair, "127.0.0.7") for _ in range(45)]
    with from_peer(pair, "127.0.0.8") as modest, from_peer(pair, "127.0.0.8") as other:
        assert ask_live(modest)
        assert ask_live(other)
        assert ask_live(modest)
    closed, _, _ = select.select(greedy, [], [], 5)
    assert len(greedy) - len(closed) <= 40
    assert greedy[-1] not in closed  # those that came last may stay
    for line in greedy:
        line.close()


def test_a_peer_beyond_its_own_limit_gives_up_its_oldest_idle_connection(pair, monkeypatch):
    monkeypatch.setattr(connection_limits, "MAX_CONNECTIONS_PER_PEER", 3)
    modest = from_peer(pair, "127.0.0.8")
    assert ask_live(modest)
    lines = []
    for _ in range(4):
        lines.append(from_peer(pair, "127.0.0.7"))
        assert ask_live(lines[-1])
    assert [is_open(line) for line in lines] == [False, True, True, True]
    assert ask_live(modest)
    for line in (*lines, modest):
        line.close()


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: b\r\n"])
def test_a_request_wants_one_host(pair, hosts):
    """RFC 9112, 3.2."""
    with connect(pair.http) as line:
        line.sendall(b"GET /v2 HTTP/1.1\r\nConnection: close\r\n" + hosts + b"\r\n")
        status, error = status_and_error(read_all(line))
    assert status == 400
    assert "Host" in error


def test_http_1_0_needs_no_host(pair):
    with connect(pair.http) as line:
        line.sendall(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
        assert read_all(line).startswith(b"HTTP/1.1 200")


@pytest.fixture
def wide(open_doors):
    """Answers each request with 16 MB."""
    member = {"model": "known:wide", "config": {"columns": 4_000_000}, "inputs": ["x"], "output": "values"}
    spec = {"name": "pair", "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "members": {"m": member}}
    return open_doors({**spec, "fusion": {"rule": "mean", "deadline_s": 20.0}})


@pytest.mark.long
def test_an_answer_that_nobody_reads_counts_until_it_is_given_up_and_its_connection_is_closed(wide, monkeypatch):
    monkeypatch.setattr(streams, "STALL_S", 1.0)
    monkeypatch.setattr(joined_writes, "UNREAD_S", 0.5)
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0, 1]}]}'
    with connect(wide.http) as line:
        line.sendall(POST.replace(b"100000", b"%d" % len(body)) + body)
        assert line.recv(1)
        assert wide.service.budget.held_bytes >= 4 * 4_000_000  # "0.0," each
        assert is_alive(wide)
        until(lambda: not wide.service.budget.held_bytes)
        until(lambda: not is_connected(line))
    with connect(wide.http) as line:
        line.sendall(POST.replace(b"100000", b"%d\r\nConnection: close" % len(body)) + body)
        head, _, answer = read_all(line).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert len(json.loads(answer)["outputs"][0]["data"]) == 4_000_000


def is_connected(line):
    """Whether the server holds its end of a connection."""
    here = line.getsockname()
    return any(found.raddr == here for found in psutil.Process().net_connections("tcp") if found.fd != -1)
