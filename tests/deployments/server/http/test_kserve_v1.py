"""KServe's first protocol: instances in, predictions out, the same answers as under /v2."""

import base64
import json

import httpx
import numpy as np
import pytest

from quorate.deployments.wire.inference import Body
from quorate.deployments.wire.kserve_v1 import parse_predict
from tests.deployments.support.answer_ids import without_id

ROWS = np.random.default_rng(5).normal(size=(4, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def http(pair):
    with httpx.Client(base_url=pair.http, timeout=20) as client:
        yield client


def predict(http, instances, model="pair", **fields):
    return http.post(f"/v1/models/{model}:predict", json={"instances": instances, **fields})


def v2(http, rows, **fields):
    tensor = {"name": "x", "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    return http.post("/v2/models/pair/infer", json={"inputs": [tensor], **fields}).json()


@pytest.mark.parametrize("row", [lambda row: row, lambda row: {"x": row}], ids=["values", "objects"])
def test_instances_are_answered_as_the_rows_of_v2(http, row):
    reply = predict(http, [row(values) for values in ROWS.tolist()], parameters={"members": "a"})
    expected = v2(http, ROWS, parameters={"members": "a"})
    assert reply.status_code == 200
    assert np.ravel(reply.json()["predictions"]).tolist() == expected["outputs"][0]["data"]
    assert without_id(reply.json()["parameters"]) == without_id(expected["parameters"])
    assert reply.json()["classes"] == ["red", "green", "blue"]


def test_several_outputs_are_objects_by_name(http):
    (row,) = predict(http, ROWS[:1].tolist(), parameters={"explain": True}).json()["predictions"]
    expected = v2(http, ROWS[:1], parameters={"explain": True})["outputs"]
    assert {name: np.ravel(values).tolist() for name, values in row.items()} == {
        item["name"]: item["data"] for item in expected
    }


def test_models_and_whether_they_are_ready_are_told(http):
    assert http.get("/v1/models").json() == {"models": ["pair", "a", "b"]}
    assert http.get("/v1/models/pair").json() == {"name": "pair", "ready": True}
    assert http.get("/v1/models/nobody").status_code == 404
    assert predict(http, [[1, 2]], "nobody").status_code == 404
    assert http.get("/v1/models/pair:predict").status_code == 405
    assert http.get("/v1/models/pair:explain").status_code == 404


def test_bytes_come_as_text_or_in_base64(open_doors):
    members = {"length": {"model": "known:length", "inputs": ["text"], "output": "values"}}
    inputs = {"text": {"datatype": "BYTES", "shape": []}}
    doors = open_doors({"name": "coded", "inputs": inputs, "members": members, "fusion": {"rule": "mean"}})
    with httpx.Client(base_url=doors.http) as http:
        packed = base64.b64encode(b"\xff\x00\xfe").decode()
        reply = predict(http, ["hello", {"b64": packed}, {"text": "four"}, {"text": {"b64": packed}}], "coded")
        assert np.ravel(reply.json()["predictions"]).tolist() == [5, 3, 4, 3]
        assert "no text" in predict(http, [{"b64": "?"}], "coded").json()["error"]


def test_a_number_is_a_row_of_one():
    body = Body(json.dumps({"instances": [1.5, 2]}).encode())
    request = parse_predict(body, "m", [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}])
    np.testing.assert_array_equal(request.inputs["x"], np.array([[1.5], [2]], np.float32))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "no instances"),
        ({"instances": []}, "no instances"),
        ({"instances": None}, "no instances"),
        ({"instances": {"x": [1, 2]}}, "no instances"),
        ({"instances": [[1, 2], [3]]}, "unevenly nested"),
        ({"instances": [[1, "a"]]}, "not FP32"),
        ({"instances": [[[1, 2]]]}, "shape [1, 1, 2]"),
        ({"instances": [{"y": 1}]}, "has 'y', which the model does not read; it reads x"),
        ({"instances": [{}]}, "has no 'x'"),
        ({"instances": [[1, 2]], "parameters": {"members": "nobody"}}, "nobody"),
    ],
)
def test_what_is_no_row_is_refused_in_words(http, fields, sentence):
    reply = http.post("/v1/models/pair:predict", json=fields)
    assert (reply.status_code, sentence in reply.json()["error"]) == (400, True), reply.text
