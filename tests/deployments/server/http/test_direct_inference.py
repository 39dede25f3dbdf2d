"""Plain requests are answered without the application, and to the byte as it would answer them, with its limits."""

import json
import socket

import numpy as np
import pytest

from quorate.deployments.security.doors import Doors as DoorSettings
from quorate.deployments.security.tokens import digest
from quorate.deployments.server.http.direct_inference import DirectInference
from tests.deployments.support.answer_ids import unnamed
from tests.deployments.support.lines import connect, is_closed
from tests.deployments.support.waiting import until

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [0.5, 1.5, -1.0, 0.25]}]})


def request(body=BODY, *headers, model="pair", close=False, chunked=False):
    """A POST as bytes; in chunks it is the application's."""
    body = body.encode() if isinstance(body, str) else body
    lines = [f"POST /v2/models/{model}/infer HTTP/1.1", "Host: a", *headers]
    lines += ["Connection: close"] if close else []
    lines += ["Transfer-Encoding: chunked"] if chunked else [f"Content-Length: {len(body)}"]
    framed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    return "\r\n".join([*lines, "", ""]).encode() + framed


def read_answer(line):
    """Head, without its date, and body of the next answer on a connection."""
    found = b""
    while b"\r\n\r\n" not in found:
        found += line.recv(1)
    head = found.decode().splitlines()
    length = next(int(one.split()[1]) for one in head if one.startswith("content-length"))
    body = b""
    while len(body) < length:
        body += line.recv(length - len(body))
    return [one for one in head if not one.startswith("date")], body


@pytest.fixture
def taken(monkeypatch):
    """How many requests were answered directly."""
    found = []
    take = DirectInference.take

    def counted(self, *arguments):
        direct = take(self, *arguments)
        found.extend([direct] if direct is not None else [])
        return direct

    monkeypatch.setattr(DirectInference, "take", counted)
    return found


BINARY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}]}
).encode()
ROW = np.array([[3.0, 4.0]], np.float32).tobytes()


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (BODY, ()),
        (BODY.replace("{", '{"id": "seven", "parameters": {"explain": true, "priority": 1}, ', 1), ()),
        (BODY.replace("{", '{"parameters": {"binary_data_output": true}, ', 1), ()),
        (BODY.replace("{", '{"parameters": {"members": "b"}, ', 1), ()),
        (BINARY + ROW, (f"Inference-Header-Content-Length: {len(BINARY)}",)),
        (BODY.replace("{", '{"parameters": {"explain": true, "deadline_ms": 4000}, ', 1), ("Accept-Encoding: gzip",)),
    ],
    ids=["plain", "explained", "binary out", "one member", "binary in", "packed"],
)
def test_an_answer_has_the_same_bytes_first_behind_a_known_head_and_from_the_application(pair, taken, body, headers):
    with connect(pair.http) as line:
        answers = []
        for chunked in (True, False, False):
            line.sendall(request(body, *headers, chunked=chunked))
            answers.append(unnamed(read_answer(line)))
    assert len(taken) == 2
    assert answers[0][0][0] == "HTTP/1.1 200 OK"
    assert answers[1:] == answers[:1] * 2


def test_answers_in_the_words_of_an_earlier_one_have_their_own_numbers_and_ids(pair, taken):
    with connect(pair.http) as line:
        found = []
        for number in range(6):
            body = BODY.replace("0.25", str(number))
            line.sendall(request(body))
            answer = json.loads(read_answer(line)[1])
            line.sendall(request(body, chunked=True))
            other = json.loads(read_answer(line)[1])
            assert answer["outputs"] == other["outputs"]
            found += [answer["parameters"].pop("answer_id"), other["parameters"].pop("answer_id")]
            assert answer["parameters"] == other["parameters"]
    assert len(taken) == 6
    assert len(set(found)) == 12


@pytest.mark.parametrize(
    "body", ["{", "{}", BODY.replace("FP32", "FP64"), BODY.replace("0.25", "null"), BODY[:-1] + "]"]
)
def test_what_is_wrong_is_told_by_the_same_words(pair, body):
    with connect(pair.http) as line:
        answers = []
        for chunked in (True, False, False):
            line.sendall(request(body, chunked=chunked))
            answers.append(read_answer(line))
    assert answers[1:] == answers[:1] * 2
    assert answers[0][0][0] == "HTTP/1.1 400 Bad Request"


def test_an_error_of_the_engine_is_told_as_the_application_does(pair, taken):
    late = BODY.replace("{", '{"parameters": {"deadline_ms": 0.001}, ', 1)
    with connect(pair.http) as line:
        heads = []
        for chunked in (True, False):
            line.sendall(request(late, chunked=chunked))
            heads.append(read_answer(line)[0][:3])
    assert heads[0] == heads[1]
    assert heads[0][0].startswith("HTTP/1.1 504")
    assert taken


def test_pipelined_requests_of_both_ways_are_answered_in_their_order(pair):
    bodies = [BODY.replace("{", f'{{"id": "{number}", ', 1) for number in range(6)]
    with connect(pair.http) as line:
        line.sendall(request(bodies[0]))
        read_answer(line)
        line.sendall(b"".join(request(body, chunked=number % 3 == 1) for number, body in enumerate(bodies)))
        found = [json.loads(read_answer(line)[1])["id"] for _ in bodies]
    assert found == [str(number) for number in range(6)]


def test_a_body_in_pieces_behind_a_known_head_is_waited_for(pair, taken):
    with connect(pair.http) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = request()
        line.sendall(whole)
        first = unnamed(read_answer(line))
        for size in (20, whole.index(b"\r\n\r\n") + 4):
            line.sendall(whole[:size])
            line.sendall(whole[size:])
            assert unnamed(read_answer(line)) == first
        line.sendall(whole[:-5])
        until(lambda: pair.service.budget.held_bytes == len(BODY) - 5)  # what has come, and not what is to come
        line.sendall(whole[-5:])
        assert unnamed(read_answer(line)) == first
    assert len(taken) == 4
    until(lambda: not pair.service.budget.held_bytes)


def test_a_known_head_inside_of_another_head_is_no_request(pair, taken):
    with connect(pair.http) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = request()
        line.sendall(whole)
        first = unnamed(read_answer(line))
        # What comes behind the first of these requests is the value of a header, though it arrives by itself.
        line.sendall(whole + b"GET /v2/health/live HTTP/1.1\r\nHost: b\r\nX: ")
        assert unnamed(read_answer(line)) == first
        line.sendall(whole)
        assert read_answer(line)[0][0] == "HTTP/1.1 400 Bad Request"  # two Host headers
    assert len(taken) == 2


def test_a_client_that_does_not_read_is_answered_by_the_application_which_waits(pair, taken):
    with connect(pair.http) as line:
        line.sendall(request())
        first = unnamed(read_answer(line))
        state, port = pair.server._http.server_state, line.getsockname()[1]
        (connection,) = [one for one in state.connections if one.client[1] == port]
        pair.server._loop.call_soon_threadsafe(connection.flow.pause_writing)
        until(lambda: connection.flow.write_paused)
        line.sendall(request())
        until(lambda: not connection.cycle.response_complete)
        pair.server._loop.call_soon_threadsafe(connection.flow.resume_writing)
        assert unnamed(read_answer(line)) == first
    assert len(taken) == 1


def test_a_connection_that_is_to_close_is_closed_behind_the_answer(pair, taken):
    with connect(pair.http) as line:
        line.sendall(request(close=True))
        head, _ = read_answer(line)
        assert "connection: close" in head
        assert is_closed(line)
    assert taken


def test_a_request_whose_client_has_gone_is_dropped_and_gives_back_what_it_held(open_doors, tmp_path, taken):
    switch = tmp_path / "switch"
    switch.write_text("0")
    member = {"model": "known:slow", "config": {"shift": 0, "switch": str(switch)}, "inputs": ["x"], "output": "values"}
    spec = {"name": "pair", "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "members": {"m": member}}
    doors = open_doors({**spec, "fusion": {"rule": "mean", "deadline_s": 20.0}})
    switch.write_text("hold")
    with connect(doors.http) as line:
        line.sendall(request())
        until(lambda: taken)
        assert doors.service.budget.held_bytes
    until(lambda: b'reason="cancelled"} 1.0' in doors.engine.metrics.text())
    until(lambda: not doors.service.budget.held_bytes)
    switch.write_text("0")


def test_a_known_head_admits_only_as_long_as_its_token_does(open_doors, pair_spec, taken):
    doors = open_doors(pair_spec, DoorSettings(ask_tokens=(digest("old"),)))
    with connect(doors.http) as line:
        codes = []
        for token in ("old", "old", "new"):
            doors.keeper.change(DoorSettings(ask_tokens=(digest(token),)))
            line.sendall(request(BODY, "Authorization: Bearer old"))
            codes.append(read_answer(line)[0][0].split()[1])
    assert codes == ["200", "200", "401"]
    assert len(taken) == 2


def test_heads_that_never_come_again_do_not_pile_up(pair, monkeypatch):
    monkeypatch.setattr("quorate.deployments.server.http.direct_inference.MAX_KNOWN", 4)
    with connect(pair.http) as line:
        for number in range(20):
            line.sendall(request(BODY, f"X-Request-Id: {number}"))
            read_answer(line)
    assert len(pair.server.http_door.direct.known) <= 4


@pytest.mark.long
def test_an_idle_connection_is_closed_after_its_time_and_a_busy_one_is_not(pair):
    with connect(pair.http) as idle, connect(pair.http) as busy:
        idle.sendall(request())
        read_answer(idle)
        idle.setblocking(False)

        def closed():
            busy.sendall(request())
            assert read_answer(busy)[0][0] == "HTTP/1.1 200 OK"
            try:
                return idle.recv(1) == b""
            except BlockingIOError:
                return False

        until(closed)
