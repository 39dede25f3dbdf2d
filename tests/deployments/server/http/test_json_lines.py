"""Lines of JSON in and out: in their order, as they come, an error in its own line, and few in memory."""

import itertools
import json
import socket
import threading

import httpx
import numpy as np
import pytest

from quorate.deployments.server.http import json_lines
from tests.deployments.support.answer_ids import without_id
from tests.deployments.support.waiting import until

ROWS = np.random.default_rng(6).normal(size=(300, 2)).astype(np.float32)
LINES = {"content-type": "application/x-ndjson"}


def line(row, **fields):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": row}
    return json.dumps({"inputs": [tensor], **fields}).encode() + b"\n"


def post(doors, body, model="pair", headers=LINES):
    return httpx.post(f"{doors.http}/v2/models/{model}/infer", content=body, headers=headers, timeout=20)


def answers(reply):
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/x-ndjson")
    return [json.loads(text) for text in reply.text.splitlines()]


def test_each_line_is_answered_as_a_request_of_its_own(pair):
    found = answers(post(pair, b"".join(line(row, id=str(n)) for n, row in enumerate(ROWS.tolist()))))
    tensor = {"name": "x", "datatype": "FP32", "shape": list(ROWS.shape), "data": ROWS.ravel().tolist()}
    whole = httpx.post(f"{pair.http}/v2/models/pair/infer", json={"inputs": [tensor]}).json()
    assert [one["id"] for one in found] == [str(n) for n in range(len(ROWS))]
    assert [x for one in found for x in one["outputs"][0]["data"]] == whole["outputs"][0]["data"]
    assert without_id(found[0]["parameters"]) == without_id(whole["parameters"])


@pytest.mark.parametrize("kind", sorted(json_lines.CONTENT_TYPES))
def test_a_line_that_is_wrong_has_its_error_in_its_place(pair, kind):
    wrong = [b"{\n", b"[]\n", line([1, 2, 3], id="three"), line([1, 2], parameters={"members": "nobody"})]
    bodies = [line([1, 2]), *wrong, b"\r\n", line([1, 2]).replace(b"\n", b"\r\n"), line([1, 2])[:-1]]
    found = answers(post(pair, b"".join(bodies), headers={"content-type": f"{kind.decode()}; charset=utf-8"}))
    assert [one.get("status", 200) for one in found] == [200, 400, 400, 400, 400, 200, 200]
    assert found[3]["id"] == "three"
    assert "nobody" in found[4]["error"]


def test_a_line_that_is_too_long_costs_only_itself(pair, monkeypatch):
    monkeypatch.setattr(pair.service, "most_body_bytes", lambda model, version="": 300)
    long = line([1, 2], id="x" * 100_000)
    found = answers(post(pair, line([1, 2]) + long + line([3, 4]) + long))
    assert [one.get("status", 200) for one in found] == [200, 413, 200, 413]


@pytest.mark.parametrize(
    ("body", "model", "headers", "status"),
    [
        (b"", "pair", LINES, 400),
        (b"\n \r\n", "pair", LINES, 400),
        (line([1, 2]), "nobody", LINES, 404),
        (line([1, 2]), "pair", {**LINES, "content-encoding": "gzip"}, 501),
    ],
    ids=["empty", "blank", "unknown model", "packed"],
)
def test_what_holds_no_lines_for_a_model_is_refused_as_a_whole(pair, body, model, headers, status):
    reply = post(pair, body, model, headers)
    assert (reply.status_code, "error" in reply.json()) == (status, True)


def test_bytes_cannot_stand_behind_a_line(pair):
    found = answers(post(pair, line([1, 2], parameters={"binary_data_output": True})))
    assert "no place for bytes" in found[0]["error"]


class Talk:
    """A request whose lines are sent one by one."""

    def __init__(self, doors):
        port = int(doors.http.rpartition(":")[2])
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        head = "POST /v2/models/pair/infer HTTP/1.1\r\nHost: l\r\nTransfer-Encoding: chunked\r\n"
        self.socket.sendall(f"{head}Content-Type: application/x-ndjson\r\n\r\n".encode())

    def say(self, data):
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def hear(self, text):
        heard = b""
        while text not in heard:
            heard += self.socket.recv(1 << 16)


def test_a_line_is_answered_before_the_next_is_sent(pair):
    talk = Talk(pair)
    with talk.socket:
        for number in range(3):
            talk.say(line([1, 2], id=f"number{number}"))
            talk.hear(b"number%d" % number)


def test_a_client_that_does_not_read_is_read_from_no_further(pair):
    """It may send what fits the buffers on the way, not a million lines."""
    talk = Talk(pair)
    sent = itertools.count()

    def flood():
        try:
            while True:
                talk.say(line([1, 2]) * 1000)
                next(sent)
        except OSError:
            pass

    talk.socket.settimeout(1)
    flooding = threading.Thread(target=flood)
    flooding.start()
    flooding.join(timeout=60)
    assert not flooding.is_alive()
    assert next(sent) < 500
    assert pair.service.budget.held_bytes < 64 << 20
    talk.socket.close()
    until(lambda: pair.service.budget.held_bytes == 0)
