"""The Open Inference Protocol over HTTP: tensors as bytes where the server takes them, else as JSON."""

# B batch

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray

from quorate.deployments.client.inference import TimeLeft
from quorate.deployments.client.remote_errors import error_text
from quorate.deployments.security.credentials import Credentials
from quorate.deployments.sources.remote.server import (
    Description,
    DownError,
    RefusedError,
    RemoteTensor,
    UnreachableError,
)
from quorate.deployments.spec.model_address import ModelAddress
from quorate.deployments.telemetry.current import trace_headers
from quorate.deployments.wire.binary_tensors import decode, described
from quorate.deployments.wire.class_names import read_classes
from quorate.deployments.wire.datatypes import bytes_array, datatype_of, numpy_dtype

Array = NDArray[Any]
_LENGTH = "inference-header-content-length"
_EXTENSION = "binary_tensor_data"
_ALL_BINARY = {"parameters": {"binary_data_output": True}}
# Not about the rows: who asks, how often, whether the server is up, and whether it was in time.
_NOT_OF_ROWS = (401, 403, 404, 408, 429)
_DOWN = (502, 503, 504)


class HttpServer:
    """A model behind HTTP."""

    def __init__(self, address: ModelAddress, credentials: Credentials):
        self._base = f"{address.scheme}://{address.place}"
        version = f"/versions/{quote(address.version, safe='')}" if address.version else ""
        self._model = f"{self._base}/v2/models/{quote(address.model, safe='')}{version}"
        verify = credentials.context() if address.scheme == "https" else True
        # A connection that could not be made is tried once more; what may have arrived is never sent again.
        transport = httpx.HTTPTransport(verify=verify, retries=1)
        headers = {"accept-encoding": "identity", **credentials.headers}
        self._http = httpx.Client(transport=transport, headers=headers, follow_redirects=False)
        weakref.finalize(self, self._http.close)
        self._binary = False

    def describe(self, timeout_s: float) -> Description:
        expires = time.monotonic() + timeout_s
        server = orjson.loads(self._ask("GET", f"{self._base}/v2", timeout_s).content)
        self._binary = _EXTENSION in (server.get("extensions") or ())
        found = orjson.loads(self._ask("GET", self._model, expires - time.monotonic()).content)
        try:
            return Description(_tensors(found["inputs"]), _tensors(found["outputs"]))
        except (KeyError, TypeError, ValueError) as error:
            raise RefusedError(f"its description lacks {error}") from None

    def infer(self, inputs: Mapping[str, Array], output: str | None, timeout_s: float) -> dict[str, Array]:
        reply = self._ask("POST", f"{self._model}/infer", timeout_s, *self._request(inputs, output))
        try:
            return _outputs(reply, output)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise RefusedError(f"its answer cannot be read: {type(error).__name__}: {error}") from None

    def _request(self, inputs: Mapping[str, Array], output: str | None) -> tuple[bytes, dict[str, str]]:
        if self._binary:
            tensors, blobs = described(inputs)
            asked = {"outputs": [{"name": output, "parameters": {"binary_data": True}}]} if output else _ALL_BINARY
            head = orjson.dumps({"inputs": tensors, **asked})
            return b"".join([head, *blobs]), {"content-type": "application/octet-stream", _LENGTH: str(len(head))}
        plain = [
            {"name": name, "datatype": datatype_of(array), "shape": array.shape, "data": _plain(name, array)}
            for name, array in inputs.items()
        ]
        named = {"outputs": [{"name": output}]} if output else {}
        return orjson.dumps({"inputs": plain, **named}), {"content-type": "application/json"}

    def _ask(
        self, method: str, url: str, timeout_s: float, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        if timeout_s <= 0:
            raise UnreachableError("nobody waits for the answer any more")
        times = TimeLeft(time.monotonic() + timeout_s, timeout_s)
        try:
            reply = self._http.request(
                method, url, content=body, headers={**(headers or {}), **trace_headers()}, extensions={"timeout": times}
            )
        except httpx.TimeoutException:
            raise DownError(f"{self._base} did not answer within {timeout_s:.3g} s") from None
        except httpx.TransportError as error:
            raise DownError(f"{self._base} cannot be asked: {error or type(error).__name__}") from None
        if reply.status_code != 200:
            of_rows = UnreachableError if reply.status_code in _NOT_OF_ROWS else RefusedError
            kind = DownError if reply.status_code in _DOWN else of_rows
            raise kind(f"{self._base} answered {reply.status_code}: {error_text(reply.content)[:300]}")
        return reply


def _tensors(found: Any) -> tuple[RemoteTensor, ...]:
    return tuple(map(_tensor, found))


def _tensor(found: Mapping[str, Any]) -> RemoteTensor:
    classes = read_classes((found.get("parameters") or {}).get("classes"))
    return RemoteTensor(
        str(found["name"]), str(found["datatype"]), tuple(int(size) for size in found["shape"]), classes
    )


def _plain(name: str, array: Array) -> list[Any]:
    """The elements of a tensor as JSON has them.

    Raises:
        ValueError: there are some that JSON has not.
    """
    if array.dtype == object:
        return [item.decode() for item in array.ravel()]
    if array.dtype.kind not in "biuf" or (array.dtype.itemsize < 4 and array.dtype.kind == "f"):
        array = array.astype(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} is not finite, and the server takes JSON alone, which has no such number")
    values: list[Any] = array.ravel().tolist()
    return values


def _outputs(reply: httpx.Response, name: str | None) -> dict[str, Array]:
    """Of an answer one output or all; their bytes stand behind its JSON in the order of the outputs that have some."""
    body = memoryview(reply.content)
    at = int(reply.headers.get(_LENGTH, len(body)))
    found = {}
    for item in orjson.loads(body[:at])["outputs"]:
        shape, datatype = tuple(int(size) for size in item["shape"]), str(item["datatype"])
        size = (item.get("parameters") or {}).get("binary_data_size")
        if name in (None, item["name"]):
            raw = body[at : at + size] if size is not None else None
            found[str(item["name"])] = _read(item, datatype, shape) if raw is None else decode(raw, datatype, shape)
        at += size or 0
    if not found:
        raise ValueError(f"it has no output {name or ''}".rstrip())
    return found


def _read(item: Mapping[str, Any], datatype: str, shape: tuple[int, ...]) -> Array:
    if datatype == "BYTES":
        return bytes_array([str(value).encode() for value in item["data"]]).reshape(shape)
    return np.array(item["data"], numpy_dtype(datatype)).reshape(shape)
