"""A client in Python: NumPy arrays in, NumPy arrays out; Arrow record batches in, record batches out."""

# B rows

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray

from quorate.deployments.client.remote_errors import refusal
from quorate.deployments.errors import RequestError, UnavailableError
from quorate.deployments.security.credentials import Credentials
from quorate.deployments.wire.binary_tensors import decode, encode
from quorate.deployments.wire.datatypes import datatype_of

if TYPE_CHECKING:
    from quorate.deployments.client.arrow import ArrowResult

Array = NDArray[Any]
Scalar = str | int | float | bool
# However long an overloaded server would like it, a retry waits no longer.
MAX_PAUSE_S = 5.0
_HEADER_LENGTH = "inference-header-content-length"


@dataclass(frozen=True)
class Result:
    """An answer: outputs by name, (B, ...) each, and what the server says about it (revision, members_used, ...)."""

    outputs: Mapping[str, Array]
    parameters: Mapping[str, Any]


class Client:
    """Speaks the Open Inference Protocol over HTTP; one connection pool, safe to share between threads.

    Args:
        url: of the HTTP door.
        timeout_s: how long an answer may take, and a stream may pause.
        model: asked where a call names none.
        retries: how often a call is made again that the server refuses with 503, after the time it asks for.

    Raises:
        CredentialError: a file of the credentials cannot be used.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float = 30.0,
        credentials: Credentials | None = None,
        model: str = "",
        retries: int = 0,
    ):
        self._url, self._timeout_s, self._model, self._retries = url, timeout_s, model, retries
        self._credentials = shown = credentials or Credentials()
        # Floats hardly compress; httpx would ask for it.
        headers = {"accept-encoding": "identity", **shown.headers}
        verify = shown.context() if url.startswith("https:") else False
        self._http = httpx.Client(base_url=url, timeout=timeout_s, headers=headers, verify=verify)

    def infer(self, model: str = "", inputs: Mapping[str, Array] | None = None, /, **named: Array | Scalar) -> Result:
        """Ask a model: ``client.infer("digits", image=rows, deadline_ms=50)``.

        Args:
            model: the ensemble's name, or a member's; the client's when left out.
            inputs: by name, (B, *shape), of the model's datatype; for names that are none in Python.
            named: an array is an input, anything else a parameter of the request, such as ``explain=True``.

        Raises:
            RemoteError: the server refused the request.
            RequestError: an input has a dtype that the protocol has no word for.
            UnavailableError: there is no server at the address.
        """
        arrays = dict(inputs or {})
        parameters: dict[str, Scalar] = {}
        for name, value in named.items():
            if isinstance(value, np.ndarray):
                arrays[name] = value
            else:
                parameters[name] = value
        tensors, blobs = [], []
        for name, array in arrays.items():
            array = _as_bytes_objects(array) if array.dtype.kind in "USO" else array
            datatype = _datatype(name, array)
            blobs.append(encode(array))
            size = {"binary_data_size": len(blobs[-1])}
            tensors.append({"name": name, "datatype": datatype, "shape": array.shape, "parameters": size})
        head = orjson.dumps({"inputs": tensors, "parameters": {**parameters, "binary_data_output": True}})
        headers = {_HEADER_LENGTH: str(len(head)), "content-type": "application/octet-stream"}
        return _result(self._call("POST", self._path(model, "/infer"), b"".join([head, *blobs]), headers))

    def infer_arrow(self, data: Any, model: str = "", **parameters: Scalar) -> Iterator[ArrowResult]:
        """Ask for rows in bulk; they go out while answers come in, and none are kept.

        Args:
            data: a ``pyarrow.Table``, ``RecordBatch`` or ``RecordBatchReader``, or record batches one by one, with one
                column for each of the model's inputs (see ``quorate.deployments.wire.arrow_tensors``).
            model: as in ``infer``.
            parameters: of every row's request.

        Yields:
            Answers in the rows' order, an output column each, and what the server says of these rows.

        Raises:
            RemoteError: the server refused, at once or midway.
            UnavailableError: there is no server at the address, or its answer broke off.
        """
        from quorate.deployments.client.arrow import infer_stream

        return infer_stream(
            self._url, self._path(model, "/infer"), self._credentials, self._timeout_s, data, parameters
        )

    def publish(self, fusion: Mapping[str, Any], model: str = "") -> None:
        """Make a fusion the live one: ``client.publish({"weights": {"cnn": 0.7, "rnn": 0.3}})``.

        Args:
            fusion: in a spec's words; what it leaves out stays as it is, None takes it away.
            model: the ensemble.

        Raises:
            RemoteError: the server refused; the old one still answers.
        """
        config = orjson.dumps({"fusion": dict(fusion)}).decode()
        body = orjson.dumps({"parameters": {"config": config}})
        name = quote(self._named(model), safe="")
        self._call("POST", f"/v2/repository/models/{name}/load", body, {"content-type": "application/json"})

    def metadata(self, model: str = "") -> dict[str, Any]:
        """A model's inputs and outputs."""
        data: dict[str, Any] = self._call("GET", self._path(model)).json()
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
        for pause_s in (0.1 * 2.0**attempt for attempt in range(self._retries)):
            reply = self._ask(method, path, body, headers)
            if reply.status_code != 503:
                return _checked(reply)
            asked = reply.headers.get("retry-after", "")
            time.sleep(min(float(asked) if asked.isdigit() else pause_s, MAX_PAUSE_S))
        return _checked(self._ask(method, path, body, headers))

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None) -> httpx.Response:
        try:
            return self._http.request(method, path, content=body, headers=headers)
        except httpx.TransportError as error:
            raise UnavailableError(
                f"no answer from {self._http.base_url} ({error}); is the ensemble deployed?"
            ) from None

    def _path(self, model: str, verb: str = "") -> str:
        return f"/v2/models/{quote(self._named(model), safe='')}{verb}"

    def _named(self, model: str) -> str:
        if not (model or self._model):
            raise RequestError("no model is named; name one in the call, or give the client one")
        return model or self._model


def _checked(reply: httpx.Response) -> httpx.Response:
    if reply.status_code != 200:
        raise refusal(reply.status_code, reply.content, reply.headers.get("retry-after", ""))
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
