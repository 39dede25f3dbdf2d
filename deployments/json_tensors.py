"""The protocol's JSON bodies: inference requests in, responses out."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import orjson
from numpy.typing import NDArray

from quorate.deployments.binary_tensors import parse_datatype, parse_shape
from quorate.deployments.datatypes import datatype_of, numpy_dtype
from quorate.deployments.service import VERSION, InferRequest, InferResponse
from quorate.fusion.errors import RequestError

Array = NDArray[Any]
_KINDS = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}  # NumPy kinds of JSON data that fit, by the kind of the datatype


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON body that must be one object."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON ({error}); send a JSON object") from None
    if not isinstance(data, dict):
        raise RequestError(f"the body is a JSON {type(data).__name__}; send an object")
    return data


def parse_infer(body: bytes, model: str, version: str) -> InferRequest:
    """An inference request from its JSON body.

    Raises:
        RequestError: what is wrong and how to say it right.
    """
    data = parse_object(body)
    inputs = data.get("inputs")
    if not isinstance(inputs, list):
        raise RequestError("the request has no list of inputs; send {'inputs': [{name, datatype, shape, data}]}")
    arrays: dict[str, Array] = {}
    for item in inputs:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise RequestError("an input is no object with a name; send {name, datatype, shape, data}")
        if item["name"] in arrays:
            raise RequestError(f"input '{item['name']}' is given twice; give it once")
        arrays[item["name"]] = parse_tensor(item)
    identifier = data.get("id", "")
    if not isinstance(identifier, str):
        raise RequestError(f"id is {identifier!r}; give a string")
    return InferRequest(model, arrays, version, identifier, _outputs(data), parse_parameters(data))


def _outputs(data: dict[str, Any]) -> tuple[str, ...] | None:
    outputs = data.get("outputs")
    if not outputs:
        return None
    if not isinstance(outputs, list) or not all(
        isinstance(o, dict) and isinstance(o.get("name"), str) for o in outputs
    ):
        raise RequestError("outputs is no list of objects with a name; send [{'name': ...}] or leave it out")
    return tuple(o["name"] for o in outputs)


def parse_parameters(data: dict[str, Any]) -> dict[str, str | int | float | bool]:
    parameters = data.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise RequestError("parameters is no object; send {'name': value}")
    for key, value in parameters.items():
        if not isinstance(value, (str, int, float, bool)):
            raise RequestError(f"parameter {key} is no string, number or boolean; give one of these")
    return parameters


def parse_tensor(item: dict[str, Any]) -> Array:
    """One JSON tensor; its data may be flat or nested, and is never cast to what it is not."""
    name, data = item["name"], item.get("data")
    datatype = parse_datatype(name, item.get("datatype"))
    shape = parse_shape(name, item.get("shape"))
    if not isinstance(data, list):
        raise RequestError(f"input '{name}' has no list of data; send the elements in row-major order")
    values = _bytes_array(name, data) if datatype == "BYTES" else _number_array(name, datatype, data)
    if values.size != math.prod(shape):
        raise RequestError(
            f"input '{name}' has {values.size} elements but shape {list(shape)} needs {math.prod(shape)}"
        )
    return values.reshape(shape)


def _number_array(name: str, datatype: str, data: list[Any]) -> Array:
    dtype = numpy_dtype(datatype)
    wrong = RequestError(
        f"input '{name}' has data that is not {datatype}; give plain numbers of that type, evenly nested"
    )
    try:
        raw = np.array(data)
    except (ValueError, OverflowError):
        raise wrong from None
    if raw.size == 0:
        return np.empty(0, dtype)
    kind = "f" if dtype == ml_dtypes.bfloat16 else dtype.kind
    if raw.dtype.kind not in _KINDS[kind] or (kind != "b" and raw.dtype.kind != "f" and _has_bool(data)):
        raise wrong
    if kind in "iu":
        info = np.iinfo(dtype)
        if int(raw.min()) < info.min or int(raw.max()) > info.max:
            raise RequestError(f"input '{name}' has numbers outside {datatype}; give {info.min} to {info.max}")
        return raw.astype(dtype)
    if kind == "b":
        return raw
    with np.errstate(over="ignore"):
        values = raw.astype(dtype)
    if not np.isfinite(values.astype(np.float64)).all():
        raise RequestError(f"input '{name}' has numbers outside {datatype}; give finite numbers in its range")
    return values


def _has_bool(data: list[Any]) -> bool:
    """NumPy quietly makes numbers of a list that mixes true with numbers."""
    stack: list[Any] = [data]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, bool):
            return True
    return False


def _bytes_array(name: str, data: list[Any]) -> Array:
    flat: list[bytes] = []
    stack: list[Any] = [data]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(reversed(item))
        elif isinstance(item, str):
            flat.append(item.encode())
        else:
            raise RequestError(f"input '{name}' has data that is not BYTES; give strings, or send it as binary")
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array


def dump_response(response: InferResponse) -> bytes:
    body: dict[str, Any] = {"model_name": response.model, "model_version": VERSION}
    if response.id:
        body["id"] = response.id
    if response.parameters:
        body["parameters"] = response.parameters
    body["outputs"] = [_dump_tensor(name, array) for name, array in response.outputs.items()]
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _dump_tensor(name: str, array: Array) -> dict[str, Any]:
    datatype = datatype_of(array)
    flat = array.ravel()
    data: Any = flat
    if datatype in ("FP16", "BF16"):
        data = flat.astype(np.float32)
    elif datatype == "BYTES":
        data = [item.decode("utf-8", "replace") for item in flat]
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": data}
