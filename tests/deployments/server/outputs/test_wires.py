"""Several outputs over every wire: by name, each with its classes and parameters."""

import json
import shlex

import grpc
import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from quorate.deployments.errors import RequestError
from quorate.deployments.wire import open_inference_pb2 as pb
from tests.deployments.support.desk import MOODS, ROWS, known


def test_frames_have_the_columns_of_each_output(client):
    frame = client.infer(pd.DataFrame({"x": list(ROWS)}), outputs=["mood", "score"]).to_pandas()
    assert list(frame.columns) == ["mood.label", *(f"mood.{name}" for name in MOODS), *(f"score.{n}" for n in range(3))]


def test_metadata_list_the_outputs_with_their_classes(desk, client):
    described = client.metadata()["outputs"]
    assert [item["name"] for item in described] == ["mood", "topic", "only", "score"]
    assert json.loads(described[1]["parameters"]["classes"]) == MOODS
    assert "parameters" not in described[3]
    config = httpx.get(f"{desk.http}/v2/models/desk/config").json()
    assert list(json.loads(config["parameters"]["fusions"]["string_value"])) == ["mood", "topic", "only", "score"]


def test_json_and_kserves_first_protocol_have_them_by_name(desk):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": ROWS[0].tolist()}
    best = [{"name": "topic", "parameters": {"classification": 1}}, {"name": "mood"}]
    outputs = httpx.post(f"{desk.http}/v2/models/desk/infer", json={"inputs": [tensor], "outputs": best}).json()[
        "outputs"
    ]
    assert [item["name"] for item in outputs] == ["topic", "mood"]
    assert outputs[0]["data"][0].rpartition(":")[2] in MOODS
    assert outputs[1]["parameters"]["members_used"] == "a,b"
    reply = httpx.post(f"{desk.http}/v1/models/desk:predict", json={"instances": ROWS[:1].tolist()}).json()
    assert list(reply["predictions"][0]) == ["mood", "topic", "only", "score"]
    assert reply["classes"]["mood"] == MOODS


def test_over_grpc_each_output_has_its_parameters(desk):
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=ROWS.shape)
    wanted = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in ("score", "mood")]
    request = pb.ModelInferRequest(
        model_name="desk", inputs=[tensor], outputs=wanted, raw_input_contents=[ROWS.tobytes()]
    )
    with grpc.insecure_channel(desk.grpc) as channel:
        path, kinds = "/inference.GRPCInferenceService/ModelInfer", (type(request), pb.ModelInferResponse)
        stub = channel.unary_unary(path, kinds[0].SerializeToString, kinds[1].FromString)
        reply = stub(request, timeout=20)
    assert [item.name for item in reply.outputs] == ["score", "mood"]
    assert reply.outputs[1].parameters["members_used"].string_param == "a,b"
    found = np.frombuffer(reply.raw_output_contents[1], np.float32).reshape(len(ROWS), 3)
    np.testing.assert_allclose(found, 0.25 * known(1) + 0.75 * known(-2), rtol=1e-5)


def test_arrow_streams_have_a_column_for_each_and_take_names(client):
    table = pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(ROWS)})
    (answer,) = client.infer_arrow(table)
    assert answer.batch.schema.names == ["mood", "topic", "only", "score"]
    assert answer.output_parameters["topic"]["members_used"] == "a,late,picky"
    (answer,) = client.infer_arrow(table, outputs=["score"])
    assert answer.batch.schema.names == ["score"]
    with pytest.raises(RequestError, match="output 'score' is given twice"):
        list(client.infer_arrow(table, outputs=["score", "score"]))


def test_a_line_of_curl_asks_for_the_outputs_by_name(desk, client):
    line = client.curl(x=ROWS[:2], outputs=["score", "mood"])
    body = shlex.split(line)[-1]
    assert [one["name"] for one in json.loads(body)["outputs"]] == ["score", "mood"]
    reply = httpx.post(f"{desk.http}/v2/models/desk/infer", content=body).json()
    assert [one["name"] for one in reply["outputs"]] == ["score", "mood"]
