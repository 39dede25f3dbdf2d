"""What clients send and get for one inference: the protocol's JSON with tensors as bytes behind it."""

# B rows

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray

from quorate.deployments.client.inputs import as_bytes
from quorate.deployments.client.result import Result
from quorate.deployments.errors import RequestError
from quorate.deployments.wire.binary_tensors import decode, described
from quorate.deployments.wire.class_names import read_classes
from quorate.deployments.wire.datatypes import datatype_of

Array = NDArray[Any]
Scalar = str | int | float | bool
_PER_SECOND = {"deadline_ms": 1e3, "timeout": 1e6}
_HEADER_LENGTH = "inference-header-content-length"


@dataclass(frozen=True)
class Request:
    """One HTTP request, below a door's URL.

    Attributes:
        repeatable: it may be sent again where it may have been worked on already.
        deadline_s: what it gives the server to answer; None for what that takes by itself.
        within: the same request with another deadline, where it has one.
    """

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    deadline_s: float | None = None
    within: Callable[[float], Request] | None = None


def infer_request(
    path: str, arrays: Mapping[str, Array], parameters: Mapping[str, Scalar], outputs: Sequence[str] = ()
) -> Request:
    """A request with all tensors as bytes, in and out.

    Args:
        outputs: what is asked for; all when none are named.

    Raises:
        RequestError: an array has a dtype that the protocol has none for.
    """
    typed = {name: as_bytes(name, array) if array.dtype.kind in "USO" else array for name, array in arrays.items()}
    for name, array in typed.items():
        datatype_named(name, array)
    tensors, blobs = described(typed)
    deadline_s = _deadline_s(parameters)
    asked = {"outputs": [{"name": name} for name in outputs]} if outputs else {}

    def within(left_s: float | None) -> Request:
        shorter = {} if left_s is None else {"deadline_ms": left_s * 1e3}
        said = {**parameters, **shorter, "binary_data_output": True}
        head = orjson.dumps({"inputs": tensors, **asked, "parameters": said})
        headers = {_HEADER_LENGTH: str(len(head)), "content-type": "application/octet-stream"}
        again = None if deadline_s is None else within
        return Request("POST", path, b"".join([head, *blobs]), headers, deadline_s=deadline_s, within=again)

    return within(None)


def _deadline_s(parameters: Mapping[str, Any]) -> float | None:
    """The soonest that the parameters ask for; what makes no sense is left to the server to say."""
    given = [
        parameters[name] / per_second
        for name, per_second in _PER_SECOND.items()
        if isinstance(parameters.get(name), int | float) and parameters[name] > 0
    ]
    return min(given, default=None)


def read_result(reply: httpx.Response) -> Result:
    """The answer to ``infer_request``."""
    body = memoryview(reply.content)
    at = int(reply.headers[_HEADER_LENGTH])
    head = orjson.loads(body[:at])
    outputs = {}
    for item in head["outputs"]:
        size = item["parameters"]["binary_data_size"]
        outputs[item["name"]] = decode(body[at : at + size], item["datatype"], tuple(item["shape"]))
        at += size
    said = {item["name"]: _without_size(item["parameters"]) for item in head["outputs"]}
    first: Mapping[str, Any] = next(iter(said.values()), {})
    several = {name: of for name, of in said.items() if "revision" in of}
    return Result(
        outputs, head.get("parameters", {}), read_classes(first.get("classes")), first.get("task", ""), several
    )


def _without_size(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parameters.items() if key != "binary_data_size"}


def datatype_named(name: str, array: Array) -> str:
    """The protocol's name for an input's dtype."""
    try:
        return datatype_of(array)
    except KeyError:
        raise RequestError(f"input '{name}' has dtype {array.dtype}; give it the one that the model reads") from None


def json_tensor(name: str, array: Array) -> dict[str, Any]:
    """An input as the protocol's JSON has it.

    Raises:
        RequestError: JSON cannot hold it.
    """
    array = as_bytes(name, array) if array.dtype.kind in "USO" else array
    return {"name": name, "datatype": datatype_named(name, array), "shape": array.shape, "data": _data(name, array)}


def _data(name: str, array: Array) -> list[Any]:
    if array.dtype == object:
        try:
            return [item.decode() for item in array.ravel()]
        except UnicodeDecodeError:
            raise RequestError(f"input '{name}' holds bytes that are no text, and JSON has none; use infer") from None
    if array.dtype.kind not in "biu" and not np.isfinite(array.astype(np.float64)).all():
        raise RequestError(f"input '{name}' holds NaN or infinity, which JSON has no word for; use infer")
    data: list[Any] = array.ravel().tolist()
    return data
