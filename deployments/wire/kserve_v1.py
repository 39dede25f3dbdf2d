"""KServe's first protocol, TensorFlow Serving's row format: ``{"instances": [...]}``, ``{"predictions": [...]}``.

An instance is the value of a model's only input, or an object of its inputs by name; what is bytes and no text is
``{"b64": "..."}``.
"""

# B rows

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from quorate.deployments.errors import RequestError
from quorate.deployments.wire.datatypes import bytes_array
from quorate.deployments.wire.inference import Body, InferRequest, InferResponse
from quorate.deployments.wire.json_tensors import flatten, parse_object, parse_parameters, parse_tensor
from quorate.deployments.wire.tensor_checks import check_count

Array = NDArray[Any]
Metadata = Mapping[str, Any]


def parse_predict(body: Body, model: str, inputs: Sequence[Metadata]) -> InferRequest:
    """An inference request.

    Args:
        inputs: as the model's metadata describes them.

    Raises:
        RequestError: what is wrong and how to say it right.
    """
    data = parse_object(body.json or b"")
    instances = data.get("instances")
    if not isinstance(instances, list) or not instances:
        raise RequestError("the request has no instances; send {'instances': [row, ...]}, or use /v2")
    columns = {item["name"]: [_value(row, item["name"], inputs) for row in instances] for item in inputs}
    arrays = {item["name"]: _array(item, columns[item["name"]]) for item in inputs}
    return InferRequest(model, arrays, parameters=parse_parameters(data))


def _value(row: Any, name: str, inputs: Sequence[Metadata]) -> Any:
    """What an instance says of one input."""
    if not isinstance(row, dict) or "b64" in row:
        if len(inputs) > 1:
            names = ", ".join(item["name"] for item in inputs)
            raise RequestError(f"an instance is no object, and the model reads {names}; give each by name")
        return row
    for key in row:
        if all(key != item["name"] for item in inputs):
            names = ", ".join(item["name"] for item in inputs)
            raise RequestError(f"an instance has '{key[:60]}', which the model does not read; it reads {names}")
    if name not in row:
        raise RequestError(f"an instance has no '{name}'; give it in each")
    return row[name]


def _array(described: Metadata, column: list[Any]) -> Array:
    name, datatype = described["name"], described["datatype"]
    shape = _shape(column)
    array = (
        _bytes(name, column, shape)
        if datatype == "BYTES"
        else parse_tensor({"name": name, "datatype": datatype, "shape": shape, "data": column})
    )
    row = described["shape"][1:]
    # A number where the model reads one in a list.
    return array.reshape(len(array), *row) if array.ndim == 1 and set(row) == {1} else array


def _shape(column: list[Any]) -> list[int]:
    shape: list[int] = []
    item: Any = column
    while isinstance(item, list):
        shape.append(len(item))
        item = item[0] if item else None
    return shape


def _bytes(name: str, column: list[Any], shape: list[int]) -> Array:
    flat, _ = flatten(name, column)
    check_count(name, len(flat), tuple(shape))
    return bytes_array([_decoded(name, item) for item in flat]).reshape(shape)


def _decoded(name: str, item: Any) -> bytes:
    if item is None:
        return b""
    if isinstance(item, str):
        return item.encode()
    try:
        return base64.b64decode(item["b64"], validate=True)
    except (TypeError, LookupError, ValueError):
        fix = "give a string, or {'b64': '...'}"
        raise RequestError(f"input '{name}' has an element that is no text; {fix}") from None


def dump_predictions(response: InferResponse) -> bytes:
    """The body of an answer: a value for each row, or where there are several outputs an object of them by name."""
    outputs = {name: _plain(array) for name, array in response.outputs.items()}
    first, *more = outputs
    body: dict[str, Any] = {"predictions": outputs[first]}
    if more:
        rows = zip(*outputs.values(), strict=True)
        body["predictions"] = [dict(zip(outputs, row, strict=True)) for row in rows]
    classes = {name: said["classes"] for name, said in response.output_parameters.items() if "classes" in said}
    if classes:
        named = {name: orjson.Fragment(str(listed)) for name, listed in classes.items()}
        body["classes"] = named if len(response.output_parameters) > 1 else named[first]
    if response.parameters:
        body["parameters"] = response.parameters
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _plain(array: Array) -> Any:
    if array.dtype == object:
        text = [item.decode("utf-8", "replace") for item in array.ravel()]
        return np.array(text, dtype=object).reshape(array.shape).tolist()
    return np.ascontiguousarray(array, np.float32 if array.dtype.name == "bfloat16" else None)
