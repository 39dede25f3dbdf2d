"""What an output's columns stand for is said on every wire, in the metadata and in the answer."""

import json

import grpc
import httpx
import numpy as np
import pyarrow as pa
import pytest

from quorate.deployments import Client
from quorate.deployments.wire import open_inference_pb2 as pb

ROW = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, -1.0]}
CLASSES = ["red", "green", "blue"]


def infer(doors, model="pair", **fields):
    reply = httpx.post(f"{doors.http}/v2/models/{model}/infer", json={"inputs": [ROW], **fields})
    assert reply.status_code == 200
    return reply.json()["outputs"]


@pytest.mark.parametrize("model", ["pair", "a"])
def test_over_http_metadata_and_answers_name_the_classes(pair, model):
    (described,) = httpx.get(f"{pair.http}/v2/models/{model}").json()["outputs"]
    (answered,) = infer(pair, model)
    assert json.loads(described["parameters"]["classes"]) == json.loads(answered["parameters"]["classes"]) == CLASSES


def test_an_answer_of_classes_or_of_explanations_names_them_only_where_they_are_columns(pair):
    (classified,) = infer(pair, outputs=[{"name": "fused", "parameters": {"classification": 1}}])
    assert "parameters" not in classified
    fused, *explained = infer(pair, parameters={"explain": True})
    assert "parameters" in fused
    assert not any("parameters" in output for output in explained)


def test_over_grpc_metadata_and_answers_name_the_classes(pair):
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 2])
    request = pb.ModelInferRequest(model_name="pair", inputs=[tensor], raw_input_contents=[np.zeros(2, "f4").tobytes()])
    with grpc.insecure_channel(pair.grpc) as channel:

        def call(rpc, message, reply):
            path = f"/inference.GRPCInferenceService/{rpc}"
            return channel.unary_unary(path, type(message).SerializeToString, reply.FromString)(message, timeout=20)

        described = call("ModelMetadata", pb.ModelMetadataRequest(name="pair"), pb.ModelMetadataResponse).outputs[0]
        answered = call("ModelInfer", request, pb.ModelInferResponse).outputs[0]
    for output in (described, answered):
        assert json.loads(output.parameters["classes"].string_param) == CLASSES


def test_in_an_arrow_stream_the_columns_field_names_the_classes(pair):
    rows = pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((3, 2), np.float32))})
    with Client(pair.http, model="pair") as client:
        (answer,) = client.infer_arrow(rows)
    assert json.loads(answer.batch.schema.field("fused").metadata[b"classes"]) == CLASSES


def test_names_of_very_many_classes_are_in_the_metadata_alone_and_the_client_reads_them_there(open_doors):
    member = {"model": "known:chosen", "inputs": ["x"], "output": "logits"}
    doors = open_doors({
        "name": "wide", "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "classes": [f"c{n}" for n in range(101)],
        "members": {"a": member}, "fusion": {"rule": "mean", "deadline_s": 5.0},
    })  # fmt: skip
    (answered,) = infer(doors, "wide")
    assert "parameters" not in answered
    with Client(doors.http, model="wide") as client:
        result = client.infer(x=np.array([[3.0, 7.0]], np.float32))
    assert (result.labels, result.classes[100]) == (["c7"], "c100")


def test_of_several_labels_the_answer_says_that_they_are_several(open_doors, pair_spec):
    doors = open_doors({**pair_spec, "name": "several", "task": "multilabel"})
    with Client(doors.http, model="several") as client:
        assert client.infer(x=np.array([[9.0, -1.0]], np.float32)).labels == [["red"]]
