"""The protocol's gRPC messages: inference requests in, responses out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.errors import RequestError
from quorate.deployments.wire import open_inference_pb2 as pb
from quorate.deployments.wire.binary_tensors import encode, parse_raw
from quorate.deployments.wire.datatypes import bytes_array, datatype_of, numpy_dtype
from quorate.deployments.wire.inference import VERSION, InferRequest, InferResponse, Scalar
from quorate.deployments.wire.tensor_checks import (
    check_count,
    check_once,
    out_of_range,
    parse_datatype,
    parse_shape,
    refuse_shared_memory,
)

Array = NDArray[Any]
_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def parse_infer(message: pb.ModelInferRequest, deadline_s: float | None = None) -> InferRequest:
    """An inference request from its message.

    Args:
        deadline_s: what is left of the client's own deadline.

    Raises:
        RequestError: what is wrong and how to say it right.
    """
    for tensor in message.inputs:
        refuse_shared_memory(f"input '{tensor.name}'", tensor.parameters)
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise RequestError(f"expected {len(message.inputs)} raw_input_contents but got {len(raw)}; give one per input")
    arrays: dict[str, Array] = {}
    for place, tensor in enumerate(message.inputs):
        check_once(tensor.name, arrays)
        arrays[tensor.name] = _parse_tensor(tensor, raw[place] if raw else None)
    return InferRequest(
        message.model_name,
        arrays,
        message.model_version,
        message.id,
        _outputs(message),
        parse_parameters(message.parameters),
        deadline_s,
        _classification(message),
    )


def _outputs(message: pb.ModelInferRequest) -> tuple[str, ...] | None:
    names: dict[str, None] = {}
    for output in message.outputs:
        check_once(output.name, names, "output")
        names[output.name] = None
    return tuple(names) or None


def _classification(message: pb.ModelInferRequest) -> dict[str, Scalar]:
    asked = {output.name: parse_parameters(output.parameters) for output in message.outputs if output.parameters}
    for name, parameters in asked.items():
        refuse_shared_memory(f"output '{name}'", parameters)
    return {name: parameters["classification"] for name, parameters in asked.items() if "classification" in parameters}


def parse_parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {}
    for key, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise RequestError(f"parameter {key} has no value; give a string, number or boolean")
        values[key] = getattr(parameter, choice)
    return values


def _parse_tensor(tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> Array:
    name = tensor.name
    datatype, shape = parse_datatype(name, tensor.datatype), parse_shape(name, list(tensor.shape))
    if raw is None:
        return parse_contents(name, datatype, shape, tensor.contents)
    if tensor.HasField("contents"):
        raise RequestError(f"input '{name}' has contents as well as raw_input_contents; give one of them")
    return parse_raw(name, datatype, shape, raw)


def parse_contents(name: str, datatype: str, shape: tuple[int, ...], contents: pb.InferTensorContents) -> Array:
    field = _FIELDS.get(datatype)
    if field is None:
        raise RequestError(f"input '{name}' is {datatype}, which has no typed contents; use raw_input_contents")
    for other, _ in contents.ListFields():
        if other.name != field:
            raise RequestError(f"input '{name}' is {datatype} but has {other.name}; give {field}")
    elements = getattr(contents, field)
    check_count(name, len(elements), shape)
    if datatype == "BYTES":
        return bytes_array(elements).reshape(shape)
    return _numbers(name, datatype, elements).reshape(shape)


def _numbers(name: str, datatype: str, elements: Any) -> Array:
    dtype, values = numpy_dtype(datatype), np.array(elements)
    if dtype.itemsize < 4 and dtype.kind in "iu" and values.size:  # the message has no 8- and 16-bit fields
        info = np.iinfo(dtype)
        if values.min() < info.min or values.max() > info.max:
            raise out_of_range(name, datatype)
    return values.astype(dtype, copy=False)


def dump_response(response: InferResponse) -> pb.ModelInferResponse:
    message = pb.ModelInferResponse(model_name=response.model, model_version=VERSION, id=response.id)
    for key, value in response.parameters.items():
        _set_parameter(message.parameters[key], value)
    for name, array in response.outputs.items():
        tensor = message.outputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        for key, value in response.output_parameters.get(name, {}).items():
            _set_parameter(tensor.parameters[key], value)
        message.raw_output_contents.append(bytes(encode(array)))
    return message


def dump_metadata(metadata: Mapping[str, Any]) -> pb.ModelMetadataResponse:
    """What ``Service.model_metadata`` says."""
    message = pb.ModelMetadataResponse(
        name=metadata["name"], versions=metadata["versions"], platform=metadata["platform"]
    )
    for found, tensors in ((message.inputs, metadata["inputs"]), (message.outputs, metadata["outputs"])):
        for tensor in tensors:
            described = found.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
            for key, value in tensor.get("parameters", {}).items():
                _set_parameter(described.parameters[key], value)
    return message


def _set_parameter(parameter: pb.InferParameter, value: Scalar) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value
