"""Requests in JSON, with or without bytes behind it, and responses."""

import json

import ml_dtypes
import numpy as np
import pytest

from quorate.deployments.errors import RequestError
from quorate.deployments.wire.inference import Body, InferResponse
from quorate.deployments.wire.json_tensors import BinaryOutputs, dump_response, parse_infer, parse_tensor

X = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2], [3, 4.5]]}


def parse(data, binary=None):
    body = Body(json.dumps(data).encode(), None if binary is None else memoryview(binary))
    return parse_infer(body, "pair", "1")


def tensor(datatype, data, shape=None):
    return parse_tensor({"name": "x", "datatype": datatype, "shape": shape or [len(data)], "data": data})


def test_a_request_is_read_with_all_that_it_says():
    outputs = [{"name": "a", "parameters": {"classification": 2, "binary_data": True}}, {"name": "b"}]
    request, binary = parse({"id": "7", "parameters": {"members": "a"}, "inputs": [X], "outputs": outputs})
    assert (request.model, request.version, request.id) == ("pair", "1", "7")
    np.testing.assert_array_equal(request.inputs["x"], np.array([[1, 2], [3, 4.5]], np.float32))
    assert (request.outputs, request.classification) == (("a", "b"), {"a": 2})
    assert request.parameters == {"members": "a"}
    assert ("a" in binary, "b" in binary) == (True, False)


def test_bytes_behind_the_json_go_to_the_inputs_in_their_order():
    inputs = [
        {"name": name, "datatype": "UINT8", "shape": [2], "parameters": {"binary_data_size": 2}} for name in ("a", "b")
    ]
    request, _ = parse({"inputs": inputs}, bytes([1, 2, 3, 4]))
    assert {name: array.tolist() for name, array in request.inputs.items()} == {"a": [1, 2], "b": [3, 4]}
    for data, message in ((bytes(3), "2 bytes of binary data but 1 are left"), (bytes(5), "1 bytes of binary data")):
        with pytest.raises(RequestError, match=message):
            parse({"inputs": inputs}, data)


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),
    [
        ("BOOL", [True, False], np.array([1, 0], bool)),
        ("INT8", [-128, 127], np.array([-128, 127], np.int8)),
        ("UINT64", [2**64 - 1], np.array([2**64 - 1], np.uint64)),
        ("FP64", [1, 0.1], np.array([1, 0.1])),
        ("BF16", [1, 0.5], np.array([1, 0.5], ml_dtypes.bfloat16)),
        ("BYTES", ["é", ""], np.array(["é".encode(), b""], object)),
    ],
)
def test_elements_become_what_their_datatype_says(datatype, data, expected):
    found = tensor(datatype, data)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("datatype", "data", "message"),
    [
        ("INT8", [128], "outside INT8; give -128 to 127"),
        ("UINT8", [-1], "outside UINT8; give 0 to 255"),
        ("FP16", [1e6], "outside FP16; give finite numbers"),
        ("INT32", [1.5], "not INT32"),
        ("INT32", [True], "not INT32"),
        ("BOOL", [1], "not BOOL"),
        ("FP32", ["1"], "not FP32"),
        ("BYTES", [1], "not BYTES; give strings"),
        ("FP32", [[1, 2], [3]], "unevenly nested"),
        ("FP32", [1, [2]], "unevenly nested"),
    ],
)
def test_nothing_is_cast_to_what_it_is_not(datatype, data, message):
    with pytest.raises(RequestError, match=message):
        tensor(datatype, data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 3}, "id is 3; give a string"),
        ({"inputs": {}}, "no list of inputs"),
        ({"inputs": [3]}, "no object with a name"),
        ({"inputs": [X, X]}, "given twice"),
        ({"inputs": [{**X, "data": 3}]}, "no list of data"),
        ({"inputs": [{**X, "shape": [3]}]}, "4 elements but shape"),
        ({"inputs": [{**X, "parameters": {"binary_data_size": 16}}]}, "data as well as binary_data_size"),
        ({"inputs": [{**X, "parameters": {"shared_memory_region": "r"}}]}, "shared memory, which is not served"),
        ({"outputs": [3]}, "outputs is no list"),
        ({"outputs": [{"name": "a", "parameters": {"shared_memory_region": "r"}}]}, "shared memory"),
        ({"outputs": [{"name": "a", "parameters": {"binary_data": 1}}]}, "give true or false"),
        ({"parameters": []}, "parameters is no object"),
        ({"parameters": {"a": []}}, "parameter a is no string, number or boolean"),
    ],
)
def test_a_request_that_is_none_is_refused_with_what_to_send(change, message):
    with pytest.raises(RequestError, match=message):
        parse({"inputs": [X], **change})


@pytest.mark.parametrize(("body", "message"), [(b"{", "not JSON"), (b"[]", "is a JSON list")])
def test_a_body_that_is_no_object_is_refused(body, message):
    with pytest.raises(RequestError, match=message):
        parse_infer(Body(body), "pair", "1")


def test_a_response_says_each_output_in_json_or_as_bytes_behind_it():
    outputs = {"a": np.array([[0.5, 1.0]], np.float32), "b": np.array([b"one"], object)}
    response = InferResponse("pair", outputs, "7", {"revision": "r"})
    head, length = dump_response(response, BinaryOutputs())
    assert length is None
    assert json.loads(head) == {
        "model_name": "pair", "model_version": "1", "id": "7", "parameters": {"revision": "r"},
        "outputs": [
            {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1.0]},
            {"name": "b", "datatype": "BYTES", "shape": [1], "data": ["one"]},
        ],
    }  # fmt: skip
    body, length = dump_response(response, BinaryOutputs(by_name={"a": True}))
    assert body[length:] == outputs["a"].tobytes()
    assert json.loads(body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 8}


def test_a_null_field_is_one_that_is_left_out_wherever_it_stands():
    """As pydantic's models dump a request of MLServer's types."""
    x = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}
    item = {**x, "parameters": {"content_type": "np", "headers": None}}
    asked = [{"name": "fused", "parameters": {"binary_data": None}}]
    nulls = {"id": None, "parameters": {"explain": None}, "inputs": [item], "outputs": asked}
    plain = {"inputs": [x], "outputs": [{"name": "fused"}]}
    (found, binary), (expected, _) = parse(nulls), parse(plain)
    assert (found.id, found.parameters, found.outputs) == (expected.id, expected.parameters, expected.outputs)
    assert (found.inputs, "fused" in binary) == (expected.inputs, False)


def test_a_null_among_data_is_a_missing_value_where_its_type_knows_one():
    x = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 2.0, 3.0, None]}
    np.testing.assert_array_equal(parse({"inputs": [x]})[0].inputs["x"], [[1, 2], [3, np.nan]])
    words = {"name": "x", "datatype": "BYTES", "shape": [2], "data": ["a", None]}
    assert parse({"inputs": [words]})[0].inputs["x"].tolist() == [b"a", b""]
    for datatype in ("INT64", "UINT8", "BOOL"):
        with pytest.raises(RequestError, match=f"'x' has null in row 1, and {datatype} knows no missing values"):
            parse({"inputs": [{**x, "datatype": datatype, "data": [True, True, None, True]}]})
