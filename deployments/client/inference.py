"""What both clients say and understand: requests, answers, retries. Nothing here reads or writes a socket.

A call is a generator that yields requests and is sent their responses; a client only carries them, with or without an
event loop.
"""

# B rows

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray

from quorate.deployments.client.inputs import Frame, Metadata, as_bytes, as_input, by_name
from quorate.deployments.client.remote_errors import refusal
from quorate.deployments.display import Displayed, Table
from quorate.deployments.errors import RemoteRequestError, RequestError
from quorate.deployments.security.credentials import Credentials
from quorate.deployments.wire.binary_tensors import decode, encode
from quorate.deployments.wire.datatypes import datatype_of

Array = NDArray[Any]
Scalar = str | int | float | bool
Inputs = Mapping[str, ArrayLike] | Frame
T = TypeVar("T")
H = TypeVar("H", httpx.Client, httpx.AsyncClient)
# However long an overloaded server would like it, a retry waits no longer.
MAX_PAUSE_S = 5.0
SHOWN_ROWS = 20
# Keywords that are parameters of a request whatever the model's inputs are called; ``inputs`` takes any name.
PARAMETERS = frozenset({"deadline_ms", "timeout", "members", "explain", "priority"})
_HEADER_LENGTH = "inference-header-content-length"


@dataclass(frozen=True, repr=False)
class Result(Displayed):
    """An answer.

    Attributes:
        outputs: by name, (B, ...) each.
        parameters: what the server says about it: revision, members_used, ...
        classes: what the columns of the first output stand for; none where the client does not know.
    """

    outputs: Mapping[str, Array]
    parameters: Mapping[str, Any]
    classes: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return {"outputs": {k: v.tolist() for k, v in self.outputs.items()}, "parameters": dict(self.parameters)}

    def tables(self) -> Sequence[Table]:
        """The likeliest class of each row, and the answer's parameters."""
        parameters = [f"{key}: {value}" for key, value in self.parameters.items() if value != ""]
        if not self.outputs:
            return [Table(lines=parameters)]
        name, values = next(iter(self.outputs.items()))
        rows = [
            (str(row), *self._likeliest(scores))
            for row, scores in enumerate(values[:SHOWN_ROWS].reshape(len(values[:SHOWN_ROWS]), -1))
        ]
        if len(values) > SHOWN_ROWS:
            rows.append(("...", f"{len(values) - SHOWN_ROWS} more", "outputs has all"))
        return [Table(("row", name, "value"), rows, lines=parameters)]

    def _likeliest(self, scores: Array) -> tuple[str, str]:
        if scores.dtype.kind not in "biuf" or not scores.size:
            return "", str(scores.tolist())
        best = int(scores.argmax())
        label = self.classes[best] if len(self.classes) == len(scores) else str(best)
        return label, f"{scores[best]:.4f}"


@dataclass(frozen=True)
class Request:
    """One HTTP request, below the client's URL."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Call = Generator[Request, httpx.Response, T]


class Calls(ABC, Generic[H]):
    """What a client knows: where to ask, what it shows, and what it has learned of the models' inputs."""

    def __init__(
        self,
        url: str,
        timeout_s: float = 30.0,
        credentials: Credentials | None = None,
        model: str = "",
        retries: int = 0,
    ):
        self._url, self._timeout_s, self._model, self._retries = url, timeout_s, model, retries
        self._credentials = credentials or Credentials()
        self._inputs: dict[str, dict[str, Metadata]] = {}
        # Floats hardly compress; httpx would ask for it.
        headers = {"accept-encoding": "identity", **self._credentials.headers}
        verify = self._credentials.context() if url.startswith("https:") else False
        self._http: H = self._open(base_url=url, timeout=timeout_s, headers=headers, verify=verify)

    @abstractmethod
    def _open(self, **options: Any) -> H:
        """One of httpx's clients."""

    def __repr__(self) -> str:
        model = f", model={self._model!r}" if self._model else ""
        return f"{type(self).__name__}({self._url!r}{model})"

    def _infer(self, model: str | Inputs, inputs: Inputs | None, named: Mapping[str, Any]) -> Call[Result]:
        mapping = inputs if isinstance(model, str) else model
        name = self._named(model if isinstance(model, str) else "")
        given, parameters, undecided = _sorted_out({} if mapping is None else by_name(mapping), named)
        arrays = {key: value for key, value in given.items() if isinstance(value, np.ndarray)}
        if undecided or len(arrays) < len(given) or not given:
            known = yield from self._known_inputs(name)
            for key, value in undecided.items():
                (parameters if key not in known and isinstance(value, str | int | float) else given)[key] = value
            arrays = {
                key: value if isinstance(value, np.ndarray) else _fitted(key, value, known)
                for key, value in given.items()
            }
        try:
            reply = yield _infer_request(self._path(name, "/infer"), arrays, parameters)
            return _result(_checked(reply))
        except RemoteRequestError:
            self._inputs.pop(name, None)  # the model may have changed since it was described
            raise

    def _metadata(self, model: str) -> Call[dict[str, Any]]:
        reply = yield Request("GET", self._path(self._named(model)))
        data: dict[str, Any] = _checked(reply).json()
        return data

    def _publish(self, fusion: Mapping[str, Any], model: str) -> Call[None]:
        config = orjson.dumps({"fusion": dict(fusion)}).decode()
        body = orjson.dumps({"parameters": {"config": config}})
        path = f"/v2/repository/models/{quote(self._named(model), safe='')}/load"
        _checked((yield Request("POST", path, body, {"content-type": "application/json"})))

    def _known_inputs(self, model: str) -> Call[dict[str, Metadata]]:
        if model not in self._inputs:
            data = yield from self._metadata(model)
            self._inputs[model] = {item["name"]: item for item in data["inputs"]}
        return self._inputs[model]

    def _pause_s(self, reply: httpx.Response, attempt: int) -> float | None:
        """How long to wait before the same request is sent again; None when the reply is to be taken."""
        if reply.status_code != 503 or attempt >= self._retries:
            return None
        asked = reply.headers.get("retry-after", "")
        return min(float(asked) if asked.isdigit() else 0.1 * 2.0**attempt, MAX_PAUSE_S)

    def _path(self, model: str, verb: str = "") -> str:
        return f"/v2/models/{quote(model, safe='')}{verb}"

    def _named(self, model: str) -> str:
        if not (model or self._model):
            raise RequestError("no model is named; name one in the call, or give the client one")
        return model or self._model


def _sorted_out(
    given: dict[str, ArrayLike], named: Mapping[str, Any]
) -> tuple[dict[str, ArrayLike], dict[str, Scalar], dict[str, Any]]:
    """Inputs, parameters, and keywords that may be either: only the model's metadata tells."""
    parameters: dict[str, Scalar] = {}
    undecided: dict[str, Any] = {}
    for name, value in named.items():
        if isinstance(value, np.ndarray):
            given[name] = value
        elif name in PARAMETERS and isinstance(value, str | int | float):
            parameters[name] = value
        else:
            undecided[name] = value
    return given, parameters, undecided


def _fitted(name: str, value: ArrayLike, known: Mapping[str, Metadata]) -> Array:
    if name not in known:
        raise RequestError(f"'{name}' is no input of the model, which reads {', '.join(known)}")
    return as_input(value, known[name])


def _infer_request(path: str, arrays: Mapping[str, Array], parameters: Mapping[str, Any]) -> Request:
    tensors, blobs = [], []
    for name, array in arrays.items():
        array = as_bytes(name, array) if array.dtype.kind in "USO" else array
        datatype = _datatype(name, array)
        blobs.append(encode(array))
        size = {"binary_data_size": len(blobs[-1])}
        tensors.append({"name": name, "datatype": datatype, "shape": array.shape, "parameters": size})
    head = orjson.dumps({"inputs": tensors, "parameters": {**parameters, "binary_data_output": True}})
    headers = {_HEADER_LENGTH: str(len(head)), "content-type": "application/octet-stream"}
    return Request("POST", path, b"".join([head, *blobs]), headers)


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
