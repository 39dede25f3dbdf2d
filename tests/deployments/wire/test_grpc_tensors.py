"""Requests and responses in the protocol's gRPC messages."""

import numpy as np
import pytest

from quorate.deployments.errors import RequestError
from quorate.deployments.wire import open_inference_pb2 as pb
from quorate.deployments.wire.grpc_tensors import dump_response, parse_infer
from quorate.deployments.wire.inference import InferResponse

REGION = {"shared_memory_region": pb.InferParameter(string_param="r")}


def message(*tensors, raw=(), **fields):
    inputs = [
        pb.ModelInferRequest.InferInputTensor(
            name=name, datatype=datatype, shape=shape, contents=pb.InferTensorContents(**contents) if contents else None
        )
        for name, datatype, shape, contents in tensors
    ]
    return pb.ModelInferRequest(model_name="pair", inputs=inputs, raw_input_contents=raw, **fields)


def test_a_request_is_read_with_all_that_it_says():
    outputs = [
        pb.ModelInferRequest.InferRequestedOutputTensor(
            name="a", parameters={"classification": pb.InferParameter(int64_param=2)}
        )
    ]
    parameters = {"members": pb.InferParameter(string_param="a"), "note": pb.InferParameter(bool_param=True)}
    request = parse_infer(
        message(("x", "FP32", [1, 2], None), raw=[np.array([1, 2], "<f4").tobytes()], id="7", outputs=outputs,
                parameters=parameters),
        deadline_s=0.5,
    )  # fmt: skip
    assert (request.model, request.id, request.deadline_s) == ("pair", "7", 0.5)
    assert request.inputs["x"].tolist() == [[1, 2]]
    assert (request.outputs, request.classification) == (("a",), {"a": 2})
    assert request.parameters == {"members": "a", "note": True}


@pytest.mark.parametrize(
    ("datatype", "contents", "dtype"),
    [
        ("BOOL", {"bool_contents": [True, False]}, np.bool_),
        ("INT8", {"int_contents": [-128, 127]}, np.int8),
        ("UINT16", {"uint_contents": [0, 65535]}, np.uint16),
        ("INT64", {"int64_contents": [-1, 2**62]}, np.int64),
        ("FP64", {"fp64_contents": [0.1, 1]}, np.float64),
        ("BYTES", {"bytes_contents": [b"a\0", b""]}, np.object_),
    ],
)
def test_typed_contents_become_what_their_datatype_says(datatype, contents, dtype):
    found = parse_infer(message(("x", datatype, [2], contents))).inputs["x"]
    assert found.dtype == dtype
    assert found.tolist() == next(iter(contents.values()))


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (message(("x", "INT8", [1], {"int_contents": [128]})), "outside INT8; give -128 to 127"),
        (message(("x", "FP16", [1], {"fp32_contents": [1]})), "no typed contents; use raw_input_contents"),
        (message(("x", "FP32", [1], {"fp64_contents": [1]})), "has fp64_contents; give fp32_contents"),
        (message(("x", "FP32", [2], {"fp32_contents": [1]})), r"1 elements but shape \[2\] needs 2"),
        (message(("x", "FP32", [1], {"fp32_contents": [1]}), raw=[bytes(4)]), "contents as well as raw"),
        (message(("x", "FP32", [1], None), raw=[b"", b""]), "expected 1 raw_input_contents but got 2"),
        (message(("x", "FP32", [1], None), ("x", "FP32", [1], None), raw=[bytes(4)] * 2), "given twice"),
        (message(parameters={"a": pb.InferParameter()}), "parameter a has no value"),
        (
            pb.ModelInferRequest(inputs=[pb.ModelInferRequest.InferInputTensor(name="x", parameters=REGION)]),
            "input 'x' is in shared memory",
        ),
        (
            message(outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="a", parameters=REGION)]),
            "output 'a' is in shared memory",
        ),
    ],
)
def test_a_request_that_is_none_is_refused_with_what_to_send(request_, error):
    with pytest.raises(RequestError, match=error):
        parse_infer(request_)


def test_a_response_has_its_tensors_as_raw_bytes_and_its_parameters_by_type():
    parameters: dict[str, bool | int | float | str] = {"degraded": True, "count": 3, "share": 0.5, "revision": "r"}
    found = dump_response(InferResponse("pair", {"a": np.array([[0.5, 1]], np.float32)}, "7", parameters))
    assert (found.model_name, found.model_version, found.id) == ("pair", "1", "7")
    assert [(o.name, o.datatype, list(o.shape)) for o in found.outputs] == [("a", "FP32", [1, 2])]
    assert found.raw_output_contents == [np.array([0.5, 1], "<f4").tobytes()]
    chosen = {key: value.WhichOneof("parameter_choice") for key, value in found.parameters.items()}
    assert chosen == {
        "degraded": "bool_param", "count": "int64_param", "share": "double_param", "revision": "string_param",
    }  # fmt: skip
