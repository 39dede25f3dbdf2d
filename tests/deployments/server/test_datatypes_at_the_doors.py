"""Every datatype of the protocol sent as every other: what the model does not read is refused, never cast."""

import grpc
import httpx
import numpy as np
import orjson
import pytest

from quorate.deployments.wire import open_inference_pb2 as pb
from quorate.deployments.wire.binary_tensors import encode
from quorate.deployments.wire.datatypes import CODES, numpy_dtype

PATH = "/inference.GRPCInferenceService/ModelInfer"


def sample(datatype):
    if datatype == "BYTES":
        return np.array([[b"1", b"0", b"1"]], dtype=object)
    return np.array([[1, 0, 1]]).astype(numpy_dtype(datatype))


def plain(datatype):
    if datatype == "BYTES":
        return ["1", "0", "1"]
    return [True, False, True] if datatype == "BOOL" else [1, 0, 1]


def ask_json(client, sent):
    tensors = [{"name": n, "datatype": d, "shape": [1, 3], "data": plain(d)} for n, d in sent.items()]
    return client.post("/v2/models/every/infer", content=orjson.dumps({"inputs": tensors})).status_code


def ask_binary(client, sent):
    blobs = {name: bytes(encode(sample(datatype))) for name, datatype in sent.items()}
    tensors = [
        {"name": n, "datatype": d, "shape": [1, 3], "parameters": {"binary_data_size": len(blobs[n])}}
        for n, d in sent.items()
    ]
    head = orjson.dumps({"inputs": tensors})
    length = {"inference-header-content-length": str(len(head))}
    return client.post("/v2/models/every/infer", content=head + b"".join(blobs.values()), headers=length).status_code


def ask_grpc(channel, sent):
    message = pb.ModelInferRequest(model_name="every")
    for name, datatype in sent.items():
        message.inputs.add(name=name, datatype=datatype, shape=[1, 3])
        message.raw_input_contents.append(bytes(encode(sample(datatype))))
    call = channel.unary_unary(PATH).future(message.SerializeToString(), timeout=20)
    return {grpc.StatusCode.OK: 200, grpc.StatusCode.INVALID_ARGUMENT: 400}.get(call.code(), call.code())


@pytest.mark.parametrize("declared", CODES)
def test_a_datatype_is_taken_for_itself_only(every, declared):
    right = {datatype: datatype for datatype in CODES}
    with httpx.Client(base_url=every.http, timeout=20) as client, grpc.insecure_channel(every.grpc) as channel:
        for sent in CODES:
            expected = 200 if sent == declared else 400
            changed = {**right, declared: sent}
            assert ask_json(client, changed) == expected, sent
            assert ask_binary(client, changed) == expected, sent
            assert ask_grpc(channel, changed) == expected, sent


@pytest.mark.parametrize(
    ("datatype", "text"),
    [
        ("FP32", b"1e400"), ("FP64", b"1e400"), ("FP16", b"70000"), ("BF16", b"1e39"), ("FP32", b"NaN"),
        ("INT64", b"1180591620717411303424"), ("UINT64", b"1180591620717411303424"), ("INT8", b"128"),
        ("INT32", b"1.0"), ("BOOL", b"2"), ("BOOL", b"1"), ("UINT8", b"true"), ("BYTES", b"1"), ("FP32", b'"1"'),
    ],
)  # fmt: skip
def test_a_value_that_its_type_does_not_have_is_refused(every, datatype, text):
    tensors = [
        b'{"name": "%s", "datatype": "%s", "shape": [1, 3], "data": %s}'
        % (d.encode(), d.encode(), orjson.dumps(plain(d)) if d != datatype else b"[" + b",".join([text] * 3) + b"]")
        for d in CODES
    ]
    body = b'{"inputs": [' + b",".join(tensors) + b"]}"
    reply = httpx.post(f"{every.http}/v2/models/every/infer", content=body, timeout=20)
    assert reply.status_code == 400
    assert datatype in reply.json()["error"] or "not JSON" in reply.json()["error"]


def test_rows_of_no_elements_get_one_answer_on_every_wire(open_doors):
    member = {"model": "known:wide", "config": {"columns": 2}, "inputs": ["x"], "output": "values"}
    spec = {"name": "free", "inputs": {"x": {"datatype": "FP32", "shape": [-1]}}, "members": {"m": member}}
    doors = open_doors({**spec, "fusion": {"rule": "mean"}})
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 0]}
    text = orjson.dumps({"inputs": [{**tensor, "data": []}]})
    head = orjson.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": 0}}]})
    url, length = f"{doors.http}/v2/models/free/infer", {"inference-header-content-length": str(len(head))}
    answers = [httpx.post(url, content=body, headers=h).json() for body, h in ((text, {}), (head, length))]
    assert [answer["outputs"][0]["data"] for answer in answers] == [[0.0] * 4] * 2
    raw = pb.ModelInferRequest(model_name="free", raw_input_contents=[b""])
    typed = pb.ModelInferRequest(model_name="free")
    for message in (raw, typed):
        message.inputs.add(name="x", datatype="FP32", shape=[2, 0])
    with grpc.insecure_channel(doors.grpc) as channel:
        infer = channel.unary_unary(PATH, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
        for message in (raw, typed):
            assert infer(message, timeout=20).raw_output_contents[0] == bytes(16)
