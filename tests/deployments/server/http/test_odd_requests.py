"""Wrong and odd requests at the HTTP door: each gets a sentence, and the next request works."""

import gzip
import json
import socket
import time
import zlib

import httpx
import numpy as np
import pytest

from quorate.deployments.server.http import bodies

ROWS = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)


def tensor(rows=ROWS, **changes):
    plain = {"name": "x", "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist(), **changes}
    return {key: value for key, value in plain.items() if value is not None}


def binary_body(rows=ROWS, *, size=None, **rest):
    """A body with the tensor behind the JSON, and the headers that say so."""
    item = tensor(rows, data=None, parameters={"binary_data_size": rows.nbytes if size is None else size})
    head = json.dumps({"inputs": [item], **rest}).encode()
    return head + rows.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


@pytest.fixture(scope="module")
def http(pair):
    with httpx.Client(base_url=pair.http, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def infer(http):
    def post(body=None, model="pair", headers=None, **fields):
        if body is None:
            body = json.dumps({"inputs": [tensor()], **fields}).encode()
        return http.post(f"/v2/models/{model}/infer", content=body, headers=headers)

    return post


def inputs(*items):
    return json.dumps({"inputs": items}).encode()


GOOD, LENGTH = binary_body()
HEAD = int(LENGTH["Inference-Header-Content-Length"])


def header(value):
    return {"Inference-Header-Content-Length": str(value)}


@pytest.mark.parametrize(
    ("body", "headers", "sentence"),
    [
        (b"", {}, "not JSON"),
        (b"{", {}, "not JSON"),
        (b"[]", {}, "send an object"),
        (b"{}", {}, "no list of inputs"),
        (b"[" * 250_000, {}, "not JSON"),
        (b'{"a":' * 250_000 + b"1" + b"}" * 250_000, {}, "not JSON"),
        (b"[" * 1025 + b"]" * 1025, {}, "not JSON"),  # one more than orjson reads
        (b"[" * 1024 + b"]" * 1024, {}, "send an object"),
        (inputs(tensor(data=7)).replace(b"7", b"[" * 101 + b"1" + b"]" * 101), {}, "'x'"),
        (inputs(tensor(parameters=7)).replace(b": 7", b": " + b'{"a":' * 101 + b"1" + b"}" * 101), {}, "parameter"),
        (inputs(tensor(data="[" * 100)), {}, "no list of data"),
        (inputs(1), {}, "no object with a name"),
        (inputs(tensor(), tensor()), {}, "given twice"),
        (inputs(), {}, "'x' is missing"),
        (inputs(*(tensor(name=f"x{i}") for i in range(10_000))), {}, "unexpected inference input 'x0'"),
        (inputs(tensor(name="x" * 100_000)), {}, "unexpected inference input 'xxx"),
        (inputs(tensor(shape=[2**4, 2**60 + 2])), {}, "too large"),
        (inputs(tensor(shape=[2**63, 2])), {}, "too large"),
        (inputs(tensor(shape=[-1, 2])), {}, "cannot be negative"),
        (inputs(tensor(shape=[5, 3])), {}, "10 elements but shape [5, 3] needs 15"),
        (inputs(tensor(shape=[5, 2.0])), {}, "has no shape"),
        (inputs(tensor(shape=[True, 10])), {}, "has no shape"),
        (inputs(tensor(shape=None)), {}, "has no shape"),
        (inputs(tensor(shape=[1] * 1000)), {}, "has no shape"),
        (inputs(tensor(shape=[0, 2], data=[])), {}, "the batch has 0 rows"),
        (inputs(tensor(shape=[10], data=[0] * 10)), {}, "the model reads [-1, 2]"),
        (inputs(tensor(datatype="FP64")), {}, "has datatype FP64; the model reads FP32"),
        (inputs(tensor(datatype=["FP32"])), {}, "use one of BOOL"),
        (inputs(tensor(data=["1"] * 10)), {}, "not FP32"),
        (inputs(tensor(data=[True] * 10)), {}, "not FP32"),
        (inputs(tensor(data=[0.5] * 9 + [True])), {}, "not FP32"),
        (inputs(tensor(data=[None] * 10)), {}, "got no finite answer"),
        (inputs(tensor(data=[[0] * 9, [0]])), {}, "unevenly nested"),
        (inputs(tensor(data=[[0] * 9, 0])), {}, "unevenly nested"),
        (inputs(tensor(data=[1e39] * 10)), {}, "outside FP32"),
        (inputs(tensor()).replace(b"[", b"[NaN,", 2), {}, "not JSON"),
        (inputs(tensor(data=[7] * 10)).replace(b"7", b"1e400", 1), {}, ""),
        (inputs(tensor(data=[7] * 10)).replace(b"7", b"Infinity", 1), {}, "not JSON"),
        (inputs(tensor(datatype="INT8", data=[128] * 10)), {}, "outside INT8"),
        (inputs(tensor(datatype="INT8", data=[0.5] * 10)), {}, "not INT8"),
        (inputs(tensor(datatype="UINT64", data=[-1] * 10)), {}, "outside UINT64"),
        (inputs(tensor(datatype="BYTES", data=[1] * 10)), {}, "not BYTES"),
        (inputs(tensor(parameters={"binary_data_size": 40})), {}, "data as well as binary_data_size"),
        (inputs(tensor(data=None, parameters={"binary_data_size": 40})), {}, "but 0 are left"),
        (inputs(tensor(data=None, parameters={"binary_data_size": -1})), {}, "has binary_data_size -1"),
        (inputs(tensor(data=None, parameters={"shared_memory_region": "r"})), {}, "shared memory"),
        (GOOD, header(-1), "Inference-Header-Content-Length is"),
        (GOOD, header("+5"), "Inference-Header-Content-Length is"),
        (GOOD, header("9" * 5000), "Inference-Header-Content-Length is"),
        (GOOD, header(99_999_999_999), "the body has"),
        (GOOD, header(HEAD - 1), "not JSON"),
        (GOOD, header(HEAD + 1), "not JSON"),
        (GOOD[:-1], LENGTH, "but 39 are left"),
        (GOOD + b"x", LENGTH, "1 bytes of binary data belong to no input"),
        (*binary_body(size=36), "needs 40 bytes but has 36"),
        (*binary_body(np.zeros((5, 3), np.float32), size=20), "needs 60 bytes but has 20"),
        (GOOD[:-1], header(0), "not a whole number of rows"),
        (b"not gzip", {"Content-Encoding": "gzip"}, "is not gzip"),
        (gzip.compress(GOOD)[:-3], {"Content-Encoding": "gzip"}, "does not end"),
        (gzip.compress(GOOD) + b"x", {"Content-Encoding": "gzip"}, "does not end"),
        (GOOD, {"Content-Encoding": "br"}, "use gzip, deflate or none"),
    ],
    ids=lambda value: value.hex()[:8] if isinstance(value, bytes) else None,
)
def test_a_wrong_request_gets_a_400_with_a_sentence_and_the_next_works(infer, body, headers, sentence):
    reply = infer(body, headers=headers)
    assert reply.status_code == 400
    assert sentence in reply.json()["error"]
    assert len(reply.content) < 5000
    assert infer().status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"id": 7},
        {"parameters": []},
        {"parameters": {"explain": "yes"}},
        {"parameters": {"members": "nobody"}},
        {"parameters": {"members": ["a"]}},
        {"parameters": {"deadline_ms": -1}},
        {"parameters": {"deadline_ms": "soon"}},
        {"parameters": {"timeout": True}},
        {"parameters": {"binary_data_output": 1}},
        {"outputs": {}},
        {"parameters": {"nested": {}}},
        {"outputs": "fused"},
        {"outputs": [{"name": "nothing"}]},
        {"outputs": [{"name": "fused"}, {"name": "fused"}]},
        {"outputs": [{"name": "fused", "parameters": {"classification": n}} for n in (1, 2)]},
        {"outputs": [{"name": "fused"}, *({"name": f"y{i}"} for i in range(9_999))]},
        {"outputs": [{"name": ""}]},
        {"outputs": [{"name": "fused", "parameters": {"classification": 0}}]},
        {"outputs": [{"name": "fused", "parameters": {"classification": 1.5}}]},
        {"outputs": [{"name": "fused", "parameters": {"shared_memory_region": "r"}}]},
    ],
)
def test_a_wrong_field_gets_a_400(infer, fields):
    reply = infer(**fields)
    assert reply.status_code == 400
    assert reply.json()["error"]


def test_a_bomb_is_refused_before_it_is_unpacked(pair, infer):
    stream = zlib.compressobj(1, wbits=31)
    bomb = b"".join(stream.compress(bytes(1 << 24)) for _ in range(17)) + stream.flush()
    reply = infer(bomb, headers={"Content-Encoding": "gzip"})
    assert reply.status_code == 413
    assert pair.http_door.budget.held_bytes == 0
    assert "unpacks to over" in reply.json()["error"]
    assert infer().status_code == 200


def test_a_body_that_is_announced_too_long_is_refused_before_it_is_sent(pair):
    head = f"POST /v2/models/pair/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {2**28 + 1}\r\n\r\n"
    assert b"413" in by_hand(pair.http, head.encode())


def test_a_body_that_turns_out_too_long_is_refused_while_it_comes(pair, infer, monkeypatch):
    monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 1 << 20)
    chunk = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    head = b"POST /v2/models/pair/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b"413" in by_hand(pair.http, head + chunk * 17)
    assert infer().status_code == 200


def test_bodies_that_come_in_share_a_limit_and_give_back_what_they_held(pair, infer, monkeypatch):
    monkeypatch.setattr(pair.http_door.budget, "limit_bytes", 1 << 20)
    host, port = pair.http.removeprefix("http://").split(":")
    head = b"POST /v2/models/pair/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as first:
        first.sendall(head + bytes(1_000_000))
        while pair.http_door.budget.held_bytes < 1_000_000:
            time.sleep(0.01)
        reply = infer(bytes(100_000))
        assert reply.status_code == 503
        assert reply.headers["retry-after"] == "1"
        assert infer().status_code == 200
    while pair.http_door.budget.held_bytes:
        time.sleep(0.01)


def by_hand(url, request):
    """Send bytes as they are; the status line of what comes back."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall(request)
        return line.makefile("rb").readline()


def test_a_header_length_given_twice_is_refused(pair):
    head = f"POST /v2/models/pair/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(GOOD)}\r\n"
    head += f"Inference-Header-Content-Length: {HEAD}\r\n" * 2
    assert b"400" in by_hand(pair.http, head.encode() + b"\r\n" + GOOD)


def test_a_body_in_65537_one_byte_chunks_is_read(pair, infer):
    body = inputs(tensor())
    body += b" " * (65_537 - len(body))
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = b"POST /v2/models/pair/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b"200" in by_hand(pair.http, head + chunks)
    assert infer().status_code == 200


def test_a_client_without_a_content_type_is_answered(pair):
    body = inputs(tensor())
    head = f"POST /v2/models/pair/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    assert b"200" in by_hand(pair.http, head.encode() + body)


def test_a_client_that_hangs_up_leaves_the_door_open(pair, infer):
    host, port = pair.http.removeprefix("http://").split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port))) as line:
            line.sendall(b"POST /v2/models/pair/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    assert infer().status_code == 200
