"""Wrong and odd requests at the gRPC door: each gets a status with a sentence, and the next request works."""

import grpc
import numpy as np
import pytest

from quorate.deployments.wire import open_inference_pb2 as pb
from quorate.deployments.wire.limits import MAX_BODY_BYTES

ROWS = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def channel(pair):
    with grpc.insecure_channel(pair.grpc, [("grpc.max_send_message_length", -1)]) as channel:
        yield channel


def send(channel, message, rpc="ModelInfer", **options):
    """Status and sentence of a call; the message as it is or as bytes."""
    data = message if isinstance(message, bytes) else message.SerializeToString()
    call = channel.unary_unary(f"/inference.GRPCInferenceService/{rpc}").future(data, timeout=60, **options)
    return call.code(), call.details()


def request(*tensors, raw=(), **rest):
    message = pb.ModelInferRequest(model_name="pair", raw_input_contents=raw, **rest)
    for tensor in tensors or ({},):
        message.inputs.add(**{"name": "x", "datatype": "FP32", "shape": ROWS.shape, **tensor})
    return message


def outputs(*names):
    return [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in names]


def typed(**contents):
    return {"contents": pb.InferTensorContents(**contents)}


BLOB, GOOD = ROWS.tobytes(), request(raw=[ROWS.tobytes()])
NUMBERS = {"fp32_contents": [0.5] * 10}


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (request({}, {}, raw=[BLOB, BLOB]), "'x' is given twice"),
        (request(typed(**NUMBERS), typed(**NUMBERS)), "'x' is given twice"),
        (request(*({"name": f"x{i}"} for i in range(10_000)), raw=[BLOB] * 10_000), "unexpected inference input 'x0'"),
        (request(raw=[b""] * 10_000), "expected 1 raw_input_contents but got 10000"),
        (request(raw=[BLOB[:-1]]), "needs 40 bytes but has 39"),
        (request(raw=[BLOB + b"\0"]), "needs 40 bytes but has 41"),
        (request(typed(fp32_contents=[0.5] * 9)), "has 9 elements but shape [5, 2] needs 10"),
        (request(typed(fp32_contents=[0.5] * 11)), "has 11 elements but shape [5, 2] needs 10"),
        (request(typed(int64_contents=[1] * 10)), "is FP32 but has int64_contents"),
        (request({"datatype": "INT32", **typed(int_contents=[1] * 10)}), "the model reads FP32"),
        (request({"shape": [2**4, 2**60 + 2]}, raw=[BLOB]), "too large"),
        (request({"shape": [2**63 - 1, 2**63 - 1]}, raw=[BLOB]), "too large"),
        (request({"shape": [-5, -2]}, raw=[BLOB]), "cannot be negative"),
        (request({"shape": [0, 2]}, raw=[b""]), "has 0 rows"),
        (request({"shape": []}, raw=[b"\0\0\0\0"]), "rows first"),
        (request({"datatype": "BYTES", "shape": [1]}, raw=[b"\xff\xff\xff\xff"]), "past the end"),
        (request({"datatype": "BYTES", "shape": [1]}, raw=[b"\1\0\0"]), "past the end"),
        (request({"datatype": "BYTES", "shape": [2]}, raw=[b"\0\0\0\0"]), "needs 2 elements but has 1"),
        (request(typed(fp32_contents=[float("nan")] * 10)), "row 0 got no finite answer"),
        (request(raw=[BLOB], model_version="../1"), "version ../1"),
        (request(raw=[BLOB], outputs=outputs("fused", "fused")), "output 'fused' is given twice"),
        (request(raw=[BLOB], outputs=outputs("nothing")), "unexpected inference output 'nothing'"),
        (request(raw=[BLOB], outputs=outputs("")), "unexpected inference output ''"),
        (request(raw=[BLOB], outputs=outputs("fused", *(f"y{i}" for i in range(9_999)))), "output 'y0'"),
    ],
    ids=range(24),
)
def test_a_wrong_request_is_refused_in_words_and_the_next_works(channel, message, sentence):
    code, details = send(channel, message)
    assert code in (INVALID, grpc.StatusCode.NOT_FOUND)
    assert sentence in details
    assert len(details) < 2500
    assert send(channel, GOOD)[0] == grpc.StatusCode.OK


@pytest.mark.parametrize(
    "data", [b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", GOOD.SerializeToString()[:-7], b"\x0b" * 5000]
)
def test_bytes_that_are_no_message_end_only_their_call(channel, data):
    assert send(channel, data)[0] not in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
    assert send(channel, GOOD)[0] == grpc.StatusCode.OK


def test_a_message_longer_than_the_model_can_need_is_refused(pair, channel):
    limit = pair.service.most_body_bytes("pair")
    assert limit < MAX_BODY_BYTES // 10
    code, details = send(channel, bytes(limit + 1))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(limit) in details
    assert send(channel, GOOD)[0] == grpc.StatusCode.OK


@pytest.mark.long
def test_a_bomb_is_refused(channel):
    """Zeros that gzip makes a thousandth; the limit holds for what comes out."""
    code, _ = send(channel, bytes(MAX_BODY_BYTES + (16 << 20)), compression=grpc.Compression.Gzip)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert send(channel, GOOD)[0] == grpc.StatusCode.OK


def test_unknown_rpcs_are_unimplemented(channel):
    for rpc in ("Nothing", "../ModelInfer", "ModelInfer/x"):
        assert send(channel, GOOD, rpc=rpc)[0] == grpc.StatusCode.UNIMPLEMENTED


def test_messages_share_the_budget_and_give_back_what_they_held(pair, channel, monkeypatch):
    budget = pair.service.budget
    with budget.hold() as others:
        monkeypatch.setattr(budget, "limit_bytes", 1000)
        others.add(990)
        code, details = send(channel, GOOD)
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "the memory for requests already holds its limit" in details
    assert send(channel, GOOD)[0] == grpc.StatusCode.OK
    assert budget.held_bytes == 0
