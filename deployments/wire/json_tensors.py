"""The protocol's HTTP bodies: inference requests in, responses out, tensors as JSON or as bytes behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import ml_dtypes
import numpy as np
import orjson
from numpy.typing import NDArray

from quorate.deployments.errors import RequestError
from quorate.deployments.wire.binary_tensors import encode, parse_raw
from quorate.deployments.wire.datatypes import bytes_array, datatype_of, numpy_dtype
from quorate.deployments.wire.inference import VERSION, Body, InferRequest, InferResponse, Scalar
from quorate.deployments.wire.tensor_checks import (
    check_count,
    check_once,
    out_of_range,
    parse_datatype,
    parse_shape,
    refuse_shared_memory,
)

Array = NDArray[Any]
# How far down a request has fields: inputs, one of them, its parameters, one of these.
DEPTH = 4
_DATA = ("data", "instances")
_LARGEST = {numpy_dtype(name): float(np.finfo(numpy_dtype(name)).max) for name in ("FP16", "FP32")}
_LARGEST[numpy_dtype("BF16")] = float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)  # type: ignore[no-untyped-call]
# Numbers whose squares add up to less are in the range of their type.
_SQUARES = {dtype: most**2 for dtype, most in _LARGEST.items()} | {numpy_dtype("FP64"): math.inf}
_JSON_TYPES: dict[str, set[type]] = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}}


@dataclass(slots=True)
class BinaryOutputs:
    """Which outputs go out as bytes: what each was asked as, and how the others go."""

    default: bool = False
    by_name: Mapping[str, bool] = field(default_factory=dict)

    def __contains__(self, output: str) -> bool:
        return self.by_name.get(output, self.default)


def parse_object(body: bytes | memoryview, what: str = "the body is") -> dict[str, Any]:
    """JSON that must be one object. A field that is null is one that is left out, wherever it stands.

    Args:
        what: begins the error's sentence.
    """
    data = parse_whole_object(body, what)
    found: dict[str, Any] = _without_nulls(data, DEPTH) if b"null" in bytes(body) else data
    return found


def parse_whole_object(body: bytes | memoryview, what: str = "the body is") -> dict[str, Any]:
    """The same, with fields that are null."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"{what} not JSON ({error}); send a JSON object") from None
    if not isinstance(data, dict):
        raise RequestError(f"{what} a JSON {type(data).__name__}; send an object")
    return data


def _without_nulls(item: Any, depth: int) -> Any:
    """The same without the fields that are null. Data are no fields: a null among them is a missing value."""
    if not depth:
        return item
    if isinstance(item, list):
        return [_without_nulls(one, depth - 1) for one in item]
    if not isinstance(item, dict):
        return item
    return {
        key: value if key in _DATA else _without_nulls(value, depth - 1)
        for key, value in item.items()
        if value is not None
    }


def parse_infer(body: Body, model: str, version: str) -> tuple[InferRequest, BinaryOutputs]:
    """An inference request from its body, and how its outputs are to be written.

    Raises:
        RequestError: what is wrong and how to say it right.
    """
    assert body.json is not None
    data = parse_object(body.json)
    identifier = data.get("id", "")
    if not isinstance(identifier, str):
        raise RequestError(f"id is {identifier!r:.60}; give a string")
    parameters = parse_parameters(data)
    binary_default = _flag(parameters, "binary_data_output")
    outputs, classes, by_name = _outputs(data)
    request = InferRequest(
        model, _inputs(data, body.binary), version, identifier, outputs, parameters, classification=classes
    )
    return request, BinaryOutputs(binary_default, by_name)


def _inputs(data: dict[str, Any], binary: memoryview | None) -> dict[str, Array]:
    inputs = data.get("inputs")
    if not isinstance(inputs, list):
        raise RequestError("the request has no list of inputs; send {'inputs': [{name, datatype, shape, data}]}")
    arrays: dict[str, Array] = {}
    at = 0
    for item in inputs:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise RequestError("an input is no object with a name; send {name, datatype, shape, data}")
        name = item["name"]
        check_once(name, arrays)
        size = _binary_size(item)
        if size is None:
            arrays[name] = parse_tensor(item)
            continue
        chunk = (binary or memoryview(b""))[at : at + size]
        if len(chunk) < size:
            raise RequestError(f"input '{name}' has {size} bytes of binary data but {len(chunk)} are left; send all")
        arrays[name] = parse_raw(
            name, parse_datatype(name, item.get("datatype")), parse_shape(name, item.get("shape")), chunk
        )
        at += size
    if binary is not None and at < len(binary):
        raise RequestError(f"{len(binary) - at} bytes of binary data belong to no input; give each binary_data_size")
    return arrays


def _binary_size(item: dict[str, Any]) -> int | None:
    """How many of the bytes behind the JSON are this tensor's; None where its data is in the JSON."""
    if "parameters" not in item:
        return None
    parameters = parse_parameters(item)
    refuse_shared_memory(f"input '{item['name']}'", parameters)
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise RequestError(f"input '{item['name']}' has binary_data_size {size!r}; give its bytes, a whole number")
    if "data" in item:
        raise RequestError(f"input '{item['name']}' has data as well as binary_data_size; give one of them")
    return size


def _outputs(data: dict[str, Any]) -> tuple[tuple[str, ...] | None, dict[str, Scalar], dict[str, bool]]:
    """The outputs asked for, of which as so many classes, and which as bytes or not."""
    outputs = data.get("outputs")
    if outputs is None or outputs == []:
        return None, {}, {}
    if not isinstance(outputs, list) or not all(
        isinstance(o, dict) and isinstance(o.get("name"), str) for o in outputs
    ):
        raise RequestError("outputs is no list of objects with a name; send [{'name': ...}] or leave it out")
    names: dict[str, None] = {}
    classes: dict[str, Scalar] = {}
    binary: dict[str, bool] = {}
    for output in outputs:
        parameters, name = parse_parameters(output), output["name"]
        check_once(name, names, "output")
        names[name] = None
        refuse_shared_memory(f"output '{name}'", parameters)
        if "binary_data" in parameters:
            binary[name] = _flag(parameters, "binary_data")
        if "classification" in parameters:
            classes[name] = parameters["classification"]
    return tuple(names), classes, binary


def parse_parameters(data: dict[str, Any]) -> dict[str, Scalar]:
    parameters = data.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestError("parameters is no object; send {'name': value}")
    for key, value in parameters.items():
        if not isinstance(value, (str, int, float, bool)):
            raise RequestError(f"parameter {key} is no string, number or boolean; give one of these")
    return parameters


def _flag(parameters: Mapping[str, Scalar], key: str) -> bool:
    value = parameters.get(key, False)
    if not isinstance(value, bool):
        raise RequestError(f"parameter {key} is {value!r:.60}; give true or false")
    return value


def parse_tensor(item: dict[str, Any]) -> Array:
    """One JSON tensor; its data may be flat or nested, and is never cast to what it is not."""
    name, data = item["name"], item.get("data")
    datatype = parse_datatype(name, item.get("datatype"))
    shape = parse_shape(name, item.get("shape"))
    if not isinstance(data, list):
        raise RequestError(f"input '{name}' has no list of data; send the elements in row-major order")
    flat, types = flatten(name, data)
    check_count(name, len(flat), shape)
    missing = [at for at, item in enumerate(flat) if item is None] if type(None) in types else []
    if missing:
        flat, types = _filled(name, datatype, flat, missing, shape), types - {type(None)}
    values = _bytes_array(name, flat, types) if datatype == "BYTES" else _number_array(name, datatype, flat, types)
    if missing and datatype != "BYTES":
        values[missing] = np.nan
    return values.reshape(shape)


def _filled(name: str, datatype: str, flat: list[Any], missing: list[int], shape: tuple[int, ...]) -> list[Any]:
    """The elements with something in the place of what is missing: what that means, see ``deployments.rows``."""
    if datatype != "BYTES" and numpy_dtype(datatype).kind in "iub":
        row = missing[0] * shape[0] // len(flat)
        raise RequestError(
            f"input '{name}' has null in row {row}, and {datatype} knows no missing values; give each row a value"
        )
    blank: Any = "" if datatype == "BYTES" else 0.0
    return [blank if item is None else item for item in flat]


def flatten(name: str, data: list[Any]) -> tuple[list[Any], set[type]]:
    """The elements of an evenly nested list, and which types they have.

    Raises:
        RequestError: it is nested unevenly.
    """
    while True:
        types = set(map(type, data))
        if list not in types:
            return data, types
        if len(types) > 1 or len(set(map(len, data))) > 1:
            raise RequestError(f"input '{name}' has unevenly nested data; give the elements flat in row-major order")
        data = list(chain.from_iterable(data))


def _number_array(name: str, datatype: str, flat: list[Any], types: set[type]) -> Array:
    dtype = numpy_dtype(datatype)
    kind = "f" if datatype == "BF16" else dtype.kind
    if not types <= _JSON_TYPES[kind]:
        raise RequestError(f"input '{name}' has data that is not {datatype}; give plain numbers of that type")
    if kind != "f":
        try:
            return np.array(flat, dtype)
        except OverflowError:
            raise out_of_range(name, datatype) from None
    values = np.array(flat, np.float64)
    # The sum of squares tells of nearly all rows at once, in a third of the time of the rest, that they fit.
    with np.errstate(over="ignore"):
        if values.dot(values) < _SQUARES[dtype]:
            return values.astype(dtype, copy=False)
        values = values.astype(dtype, copy=False)
    if not np.isfinite(values).all():
        raise out_of_range(name, datatype)
    return values


def _bytes_array(name: str, flat: list[Any], types: set[type]) -> Array:
    if not types <= {str}:
        raise RequestError(f"input '{name}' has data that is not BYTES; give strings, or send it as binary")
    return bytes_array([item.encode() for item in flat])


def dump_response(response: InferResponse, binary: BinaryOutputs) -> tuple[bytes, int | None]:
    """The body of a response, and the length of its JSON part where bytes follow it."""
    body: dict[str, Any] = {"model_name": response.model, "model_version": VERSION}
    if response.id:
        body["id"] = response.id
    if response.parameters:
        body["parameters"] = response.parameters
    blobs: list[bytes | memoryview] = []
    outputs = body["outputs"] = []
    for name, array in response.outputs.items():
        tensor: dict[str, Any] = {"name": name, "datatype": datatype_of(array), "shape": array.shape}
        if name in response.output_parameters:
            tensor["parameters"] = response.output_parameters[name]
        if name in binary:
            blobs.append(encode(array))
            tensor["parameters"] = {**tensor.get("parameters", {}), "binary_data_size": len(blobs[-1])}
        else:
            tensor["data"] = _json_data(array)
        outputs.append(tensor)
    head = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([head, *blobs]), len(head)) if blobs else (head, None)


def _json_data(array: Array) -> Any:
    if array.dtype == object:
        return [item.decode("utf-8", "replace") for item in array.ravel()]
    return np.ascontiguousarray(array).ravel()
