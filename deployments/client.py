"""A client in Python: NumPy arrays in, NumPy arrays out."""

# B rows

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray

from quorate.deployments.credentials import Credentials
from quorate.deployments.datatypes import datatype_of, decode, encode
from quorate.fusion.errors import QuorateError, RequestError, UnavailableError

Array = NDArray[Any]
_HEADER_LENGTH = "inference-header-content-length"


@dataclass(frozen=True)
class Result:
    """An answer: outputs by name, (B, ...) each, and what the server says about it (revision, members_used, ...)."""

    outputs: Mapping[str, Array]
    parameters: Mapping[str, Any]


class RemoteError(QuorateError):
    """The server refused; the text is its own, ``status`` the HTTP status."""

    def __init__(self, status: int, text: str):
        super().__init__(status, text)
        self.status, self.text = status, text

    def __str__(self) -> str:
        return f"the server answered {self.status}: {self.text}"


class Client:
    """Speaks the Open Inference Protocol over HTTP; one connection pool, safe to share between threads.

    Raises:
        CredentialError: a file of the credentials cannot be used.
    """

    def __init__(self, url: str, timeout_s: float = 30.0, credentials: Credentials | None = None):
        shown = credentials or Credentials()
        # Floats hardly compress; httpx would ask for it.
        headers = {"accept-encoding": "identity", **shown.headers}
        verify = shown.context() if url.startswith("https:") else False
        self._http = httpx.Client(base_url=url, timeout=timeout_s, headers=headers, verify=verify)

    def infer(self, model: str, inputs: Mapping[str, Array], **parameters: str | int | float | bool) -> Result:
        """Ask a model.

        Args:
            model: the ensemble's name, or a member's.
            inputs: by name, (B, *shape), of the model's datatype.
            parameters: the request's parameters, such as ``explain=True`` or ``deadline_ms=50``.

        Raises:
            RemoteError: the server refused the request.
            RequestError: an input has a dtype that the protocol has no word for.
            UnavailableError: there is no server at the address.
        """
        tensors, blobs = [], []
        for name, array in inputs.items():
            array = _as_bytes_objects(array) if array.dtype.kind in "USO" else array
            datatype = _datatype(name, array)
            blobs.append(encode(array))
            size = {"binary_data_size": len(blobs[-1])}
            tensors.append({"name": name, "datatype": datatype, "shape": array.shape, "parameters": size})
        head = orjson.dumps({"inputs": tensors, "parameters": {**parameters, "binary_data_output": True}})
        headers = {_HEADER_LENGTH: str(len(head)), "content-type": "application/octet-stream"}
        reply = self._call("POST", f"/v2/models/{quote(model, safe='')}/infer", b"".join([head, *blobs]), headers)
        return _result(reply)

    def metadata(self, model: str) -> dict[str, Any]:
        """A model's inputs and outputs."""
        data: dict[str, Any] = self._call("GET", f"/v2/models/{quote(model, safe='')}").json()
        return data

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        try:
            reply = self._http.request(method, path, content=body, headers=headers)
        except httpx.TransportError as error:
            raise UnavailableError(
                f"no answer from {self._http.base_url} ({error}); is the ensemble deployed?"
            ) from None
        if reply.status_code != 200:
            raise RemoteError(reply.status_code, _error_text(reply))
        return reply


def _result(reply: httpx.Response) -> Result:
    body = memoryview(reply.content)
    at = int(reply.headers[_HEADER_LENGTH])
    head = orjson.loads(body[:at])
    outputs = {}
    for item in head["outputs"]:
        size = item["parameters"]["binary_data_size"]
        outputs[item["name"]] = decode(body[at : at + size], item["datatype"], tuple(item["shape"]))
        at += size
    return Result(outputs, head.get("parameters", {}))


def _datatype(name: str, array: Array) -> str:
    try:
        return datatype_of(array)
    except KeyError:
        raise RequestError(f"input '{name}' has dtype {array.dtype}; give it the one that the model reads") from None


def _as_bytes_objects(array: Array) -> Array:
    """Strings as the BYTES that they go over the wire as."""
    items = [item.encode() if isinstance(item, str) else bytes(item) for item in array.ravel().tolist()]
    objects = np.empty(len(items), dtype=object)
    objects[:] = items
    return objects.reshape(array.shape)


def _error_text(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"])
    except (ValueError, KeyError, TypeError):
        return reply.text[:200]
