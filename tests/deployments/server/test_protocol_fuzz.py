"""Good requests broken in many small ways: each gets a result or a refusal in words, and the next request works."""

import copy
import random
import zlib
from collections import Counter
from typing import Any

import grpc
import httpx
import numpy as np
import orjson
import pytest

from quorate.deployments.wire import open_inference_pb2 as pb

ROWS = np.array([[1, 2], [0.5, -1], [-2, 1]], dtype=np.float32)
# None of these, and no header length of 0, makes a row so large that a member overflows on it and gets a 503.
HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 2, 2**31, 2**60 + 2, 2**63 - 1, 2**64 - 1, -(2**63), 1e308, -1e308, 0.5, "", "x", "1",
    "FP32", "FP64", "INT8", "BYTES", "BOOL", "FLOAT", "a,b", "nobody", "\x00", "../../etc/passwd", "é" * 100,
    "x" * 9000, [], {}, [[]], [None], [2**4, 2**60 + 2], [-1, 2], [1] * 99, {"name": "x"}, {"data": [1]},
    [["a", 1], [True]],
]  # fmt: skip
KEYS = [
    "name", "shape", "datatype", "data", "inputs", "outputs", "parameters", "id", "binary_data_size", "binary_data",
    "binary_data_output", "classification", "explain", "members", "shared_memory_region", "priority", "sequence_id",
]  # fmt: skip
LENGTHS = ["-1", "1", "99999999999", "9" * 40, "", "x", "1.5", "+5", "0x10"]
CODINGS = ["gzip", "deflate", "br", "identity", "", "gzip, gzip", "x" * 500]


def json_request():
    tensor = {"name": "x", "datatype": "FP32", "shape": [3, 2], "data": ROWS.tolist()}
    return {"id": "i", "inputs": [tensor], "outputs": [{"name": "fused"}], "parameters": {"explain": True}}, b""


def binary_request():
    raw = ROWS.tobytes()
    tensor = {"name": "x", "datatype": "FP32", "shape": [3, 2], "parameters": {"binary_data_size": len(raw)}}
    output = {"name": "fused", "parameters": {"binary_data": True, "classification": 2}}
    return {"inputs": [tensor], "outputs": [output], "parameters": {"members": "a,b"}}, raw


def every_request():
    """Strings as binary, small numbers as JSON."""
    raw = b"".join(len(item).to_bytes(4, "little") + item for item in (b"a", b"", b"\xff\x00"))
    strings = {"name": "BYTES", "datatype": "BYTES", "shape": [1, 3], "parameters": {"binary_data_size": len(raw)}}
    rest = [
        {"name": d, "datatype": d, "shape": [1, 3], "data": [True, False, True] if d == "BOOL" else [1, 2, 3]}
        for d in (
            "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32",
            "FP64",
        )
    ]  # fmt: skip
    return {"inputs": [strings, *rest]}, raw


def places(node):
    """Every container in a JSON tree."""
    found = [node]
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, (dict, list)):
            found.extend(places(child))
    return found


def break_tree(tree, rng):
    node = rng.choice([place for place in places(tree) if place] or [tree])
    at: Any = rng.choice(list(node) if isinstance(node, dict) else range(len(node))) if node else None
    value = copy.deepcopy(rng.choice(HOSTILE))
    match rng.randrange(5):
        case 0 if node:
            node[at] = value
        case 1 if node:
            del node[at]
        case 2 if isinstance(node, list) and node:
            node.extend([copy.deepcopy(node[at])] * rng.choice([1, 1, 1, 2, 1000]))
        case 3 if isinstance(node, dict):
            node[rng.choice(KEYS)] = value
        case _ if isinstance(node, list):
            node.insert(0, value)


def break_tail(tail, rng):
    """Bytes lost, added or changed; floats made of these stay finite and small."""
    data = bytearray(tail)
    small = bytes(rng.randrange(0x40) for _ in range(rng.choice([1, 3, 4, 4000])))
    match rng.randrange(3):
        case 0:
            del data[: rng.randrange(1, 5)]
        case 1:
            data += small
        case _ if data:
            at = rng.randrange(len(data))
            data[at : at + 1] = small[:1]
    return bytes(data)


def break_text(text, rng):
    data = bytearray(text)
    at = rng.randrange(len(data))
    match rng.randrange(5):
        case 0:
            data[at] = rng.randrange(256)
        case 1:
            del data[at:]
        case 2:
            data[at:at] = rng.choice([b"NaN", b"1e400", b"-Infinity", b"[" * 100_000, b'{"a":' * 5000, b"\xff\xfe"])
        case 3:
            data += b"}"
        case _:
            data = data * 2
    return bytes(data)


def broken_http_request(rng):
    """Model, headers and body of one request with one to three things wrong."""
    model, make = rng.choice([("pair", json_request), ("pair", binary_request), ("every", every_request)])
    tree, tail = make()
    had_tail, wrong = bool(tail), rng.randrange(1, 4)
    spoil_text = rng.random() < 0.15
    for _ in range(wrong):
        if had_tail and rng.random() < 0.3:
            tail = break_tail(tail, rng)
        else:
            break_tree(tree, rng)
    text = orjson.dumps(tree)
    text = break_text(text, rng) if spoil_text else text
    body, headers = text + tail, {}
    if had_tail:
        headers["Inference-Header-Content-Length"] = str(len(text))
        if rng.random() < 0.15:
            shift = str(len(text) + rng.choice([-1, 1]))
            headers["Inference-Header-Content-Length"] = rng.choice([*LENGTHS, shift])
    if rng.random() < 0.15:
        headers["Content-Encoding"] = rng.choice(CODINGS)
        if rng.random() < 0.7:
            packer = zlib.compressobj(1, wbits=rng.choice([15, 31]))
            body = packer.compress(body) + packer.flush()
            body = body[: rng.choice([len(body), len(body) - 1, 5])]
    return model, headers, body


def fuzz_http(pair, every, seed, count):
    """Send broken requests; returns how many of each status came back."""
    rng, seen = random.Random(seed), Counter[int]()
    urls = {"pair": pair.http, "every": every.http}
    good, _ = json_request()
    with httpx.Client(timeout=20, headers={"accept-encoding": "identity"}) as client:
        for number in range(count):
            model, headers, body = broken_http_request(rng)
            reply = client.post(f"{urls[model]}/v2/models/{model}/infer", content=body, headers=headers)
            assert reply.status_code < 500, f"request {number} of seed {seed} got {reply.status_code} {reply.text}"
            if reply.status_code != 200:
                assert len(reply.json()["error"]) > 10
            seen[reply.status_code] += 1
        assert client.post(f"{pair.http}/v2/models/pair/infer", json=good).status_code == 200
    return seen


def grpc_request():
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=ROWS.shape)
    return pb.ModelInferRequest(model_name="pair", inputs=[tensor], raw_input_contents=[ROWS.tobytes()])


def spoil_shape(request, rng):
    shape = rng.choice([[2**4, 2**60 + 2], [-1, 2], [1] * 99, [], [3, 2, 1], [0, 2], [2, 3], [2**62, 4]])
    del request.inputs[0].shape[:]
    request.inputs[0].shape.extend(shape)


def spoil_contents(request, rng):
    field = rng.choice([f.name for f in pb.InferTensorContents.DESCRIPTOR.fields])
    value = b"x" if field == "bytes_contents" else 1
    getattr(request.inputs[0].contents, field).extend([value] * rng.choice([1, 6]))


def spoil_parameter(request, rng):
    choice = rng.choice(["bool_param", "int64_param", "string_param", "double_param", "uint64_param", None])
    value = {"bool_param": True, "string_param": "x", "double_param": float("nan")}.get(choice, 2**62)
    chosen: dict[str, Any] = {choice: value} if choice else {}
    parameter = pb.InferParameter(**chosen)
    holder = rng.choice([request, request.inputs[0], *request.outputs])
    holder.parameters[rng.choice(KEYS)].CopyFrom(parameter)


def spoil_raw(request, rng):
    match rng.randrange(4):
        case 0:
            del request.raw_input_contents[:]
        case 1:
            request.raw_input_contents.append(b"")
        case 2 if request.raw_input_contents:
            request.raw_input_contents[0] = break_tail(request.raw_input_contents[0], rng)
        case _:
            request.raw_input_contents.extend([b"\0" * 4] * 1000)


def spoil_names(request, rng):
    name = rng.choice(["", "x", "nobody", "é" * 5000, "a", "b", "fused", "FP64", "BYTES", "\n"])
    match rng.randrange(6):
        case 0:
            request.model_name = name
        case 1:
            request.model_version = name
        case 2:
            request.inputs[0].name = name
        case 3:
            request.inputs[0].datatype = name
        case 4:
            request.inputs.add(name=name, datatype="FP32", shape=[3, 2])
        case _:
            request.outputs.add(name=name)


SPOILERS = [spoil_shape, spoil_contents, spoil_parameter, spoil_raw, spoil_names]
ANSWERS = {
    grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED,
}  # fmt: skip


def fuzz_grpc(pair, seed, count):
    rng, seen = random.Random(seed), Counter[grpc.StatusCode]()
    with grpc.insecure_channel(pair.grpc) as channel:
        stub = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        for number in range(count):
            request = grpc_request()
            for spoil in rng.choices(SPOILERS, k=rng.randrange(1, 4)):
                spoil(request, rng)
            call = stub.future(request, timeout=20)
            code = call.code()  # waits
            assert code in ANSWERS, f"request {number} of seed {seed} got {code} {call.details()}"
            assert code == grpc.StatusCode.OK or len(call.details()) > 10
            seen[code] += 1
        assert stub(grpc_request(), timeout=20).outputs
    return seen


@pytest.mark.long
def test_broken_http_requests_are_refused_in_words_and_never_break_the_server(pair, every):
    seen = fuzz_http(pair, every, seed=1, count=400)
    assert min(seen.get(200, 0), seen.get(400, 0)) > 10, seen  # both sides of the line were reached


def test_broken_grpc_requests_are_refused_in_words_and_never_break_the_server(pair):
    seen = fuzz_grpc(pair, seed=2, count=400)
    assert min(seen.get(grpc.StatusCode.OK, 0), seen.get(grpc.StatusCode.INVALID_ARGUMENT, 0)) > 10, seen


@pytest.mark.slow
def test_ten_thousand_broken_requests_get_no_server_error(pair, every):
    by_http, by_grpc = fuzz_http(pair, every, seed=3, count=8000), fuzz_grpc(pair, seed=4, count=2000)
    assert sum(by_http.values()) + sum(by_grpc.values()) == 10_000
    assert max(by_http) < 500
    assert set(by_grpc) <= ANSWERS
