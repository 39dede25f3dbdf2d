"""Offers of another protocol: ignored, with the body read as ever; WebSocket and HTTP/2 are refused in words."""

import json
import socket

import pytest

X = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, -1.0]}
BODY = json.dumps({"inputs": [X]}).encode()
POST = b"POST /v2/models/pair/infer HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
SIZED = b"Content-Length: %d\r\n\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:9], BODY[9:])) + b"0\r\n\r\n"
# As Java's HttpClient and curl --http2 say it.
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA\r\n"
NEXT = b"GET /v2/health/live HTTP/1.1\r\nHost: here\r\n\r\n"


def replies(doors, *packets, count=1):
    """Status and body of so many replies to bytes sent as they are."""
    port = int(doors.http.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for packet in packets:
            line.sendall(packet)
        with line.makefile("rb") as file:
            return [_reply(file) for _ in range(count)]


def _reply(file):
    status, length = int(file.readline().split()[1]), 0
    while (header := file.readline()) not in (b"\r\n", b""):
        name, _, value = header.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    return status, file.read(length)


@pytest.mark.parametrize(
    "packets",
    [
        (POST + H2C + SIZED + BODY,),
        (POST + H2C + SIZED, BODY),
        (POST + H2C[:40], H2C[40:] + SIZED + BODY[:5], BODY[5:]),
        (POST + H2C + CHUNKED + CHUNKS,),
        (POST + b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n" + SIZED + BODY,),
        (POST + b"Upgrade: h2c\r\n" + SIZED + BODY,),
    ],
    ids=["h2c", "body apart", "head in two", "chunked", "TLS", "without Connection"],
)
def test_an_offered_protocol_is_ignored_and_the_next_request_on_the_line_is_read(pair, packets):
    (plain,) = replies(pair, POST + SIZED + BODY)
    offered, after = replies(pair, *packets, NEXT, count=2)
    assert (plain[0], after) == (200, (200, b""))
    assert json.loads(offered[1])["outputs"] == json.loads(plain[1])["outputs"]


def test_a_head_is_limited_whatever_it_offers(pair):
    ((status, _),) = replies(pair, POST + H2C + b"".join(b"a%d: b\r\n" % n for n in range(200)) + SIZED + BODY)
    assert status == 431


def test_a_websocket_is_refused_in_words(pair):
    handshake = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    ((status, body),) = replies(
        pair, b"GET / HTTP/1.1\r\nHost: here\r\n" + handshake + b"Sec-WebSocket-Key: AAAA\r\n\r\n"
    )
    assert (status, "no WebSocket" in json.loads(body)["error"]) == (404, True)


def test_http_2_at_the_wrong_door_is_told_where_the_right_one_is(pair):
    ((status, body),) = replies(pair, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert (status, "HTTP/2 is for gRPC" in json.loads(body)["error"]) == (400, True)
