"""What both clients say and understand: requests, answers, retries. Nothing here reads or writes a socket.

A call is a generator that yields what to send where, or how long to pause, and is sent what came of it; a client only
carries that out, with or without an event loop.
"""

# B rows

from __future__ import annotations

import itertools
import ssl
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray

from quorate.deployments.client.dead_peers import SOCKET_OPTIONS
from quorate.deployments.client.failover import DoorList, Failure, Tries, door_urls
from quorate.deployments.client.inputs import Frame, Metadata, as_bytes, as_input, by_name
from quorate.deployments.client.remote_errors import error_text, refusal
from quorate.deployments.client.result import Result
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
# What a client waits for a server to say where its doors are.
REFRESH_TIMEOUT_S = 1.0
# Keywords that are parameters of a request whatever the model's inputs are called; ``inputs`` takes any name.
PARAMETERS = frozenset({"deadline_ms", "timeout", "members", "explain", "priority"})
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


class TimeLeft(dict[str, float]):
    """httpx's time-outs of one try: each stage of it gets what is left for all, and connecting perhaps less."""

    def __init__(self, expires: float, connect_s: float):
        super().__init__(connect=connect_s, pool=connect_s)
        self._expires = expires

    def get(self, stage: str, default: Any = None) -> Any:
        left_s = max(self._expires - time.monotonic(), 0.001)
        return min(left_s, super().get(stage, left_s))


@dataclass(frozen=True)
class Attempt:
    """A request to one door."""

    request: Request
    url: str
    timeouts: TimeLeft

    def options(self) -> dict[str, Any]:
        """The arguments of ``request`` of httpx's clients."""
        request = self.request
        return {
            "method": request.method, "url": self.url + request.path, "content": request.body,
            "headers": request.headers, "extensions": {"timeout": self.timeouts},
        }  # fmt: skip


@dataclass(frozen=True)
class Pause:
    """Nothing to do for a while."""

    pause_s: float


SocketOptions = tuple[tuple[int, int, int], ...]
Outcome = httpx.Response | httpx.TransportError | None
Call = Generator[Attempt | Pause, Outcome, T]


class Calls(ABC, Generic[H]):
    """What a client knows: where to ask, what it shows, and what it has learned of the models' inputs."""

    def __init__(
        self,
        url: str | Sequence[str],
        timeout_s: float = 30.0,
        credentials: Credentials | None = None,
        model: str = "",
        retries: int = 0,
    ):
        self._urls, self._timeout_s, self._model, self._retries = door_urls(url), timeout_s, model, retries
        self._doors = DoorList(self._urls)
        self._credentials = credentials or Credentials()
        self._inputs: dict[str, dict[str, Metadata]] = {}
        # Floats hardly compress; httpx would ask for it.
        headers = {"accept-encoding": "identity", **self._credentials.headers}
        tls = any(url.startswith("https:") for url in self._urls)
        verify = self._credentials.context() if tls else False
        # Through a proxy it is the proxy's connections that count, and httpx knows where it stands.
        sockets = None if urllib.request.getproxies() else SOCKET_OPTIONS
        self._http: H = self._open(headers, verify, sockets)

    @abstractmethod
    def _open(self, headers: dict[str, str], verify: ssl.SSLContext | bool, sockets: SocketOptions | None) -> H:
        """One of httpx's clients."""

    def __repr__(self) -> str:
        model = f", model={self._model!r}" if self._model else ""
        return f"{type(self).__name__}({','.join(self._urls)!r}{model})"

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
            reply = yield from self._ask(_infer_request(self._path(name, "/infer"), arrays, parameters))
            return _result(reply)
        except RemoteRequestError:
            self._inputs.pop(name, None)  # the model may have changed since it was described
            raise

    def _metadata(self, model: str) -> Call[dict[str, Any]]:
        reply = yield from self._ask(Request("GET", self._path(self._named(model))))
        data: dict[str, Any] = reply.json()
        return data

    def _publish(self, fusion: Mapping[str, Any], model: str) -> Call[None]:
        config = orjson.dumps({"fusion": dict(fusion)}).decode()
        body = orjson.dumps({"parameters": {"config": config}})
        path = f"/v2/repository/models/{quote(self._named(model), safe='')}/load"
        headers = {"content-type": "application/json"}
        yield from self._ask(Request("POST", path, body, headers, repeatable=False))

    def _known_inputs(self, model: str) -> Call[dict[str, Metadata]]:
        if model not in self._inputs:
            data = yield from self._metadata(model)
            self._inputs[model] = {item["name"]: item for item in data["inputs"]}
        return self._inputs[model]

    def _and_find_doors(self, call: Call[T]) -> Call[T]:
        """A call, and what keeps the list of doors true, once it is answered."""
        value = yield from call
        yield from self._find_doors()
        return value

    def _find_doors(self) -> Call[None]:
        """Now and then ask the door that has just answered where the others are."""
        now, door = time.monotonic(), self._doors.latest
        if door is not None and self._doors.refresh_due(now):
            timeouts = TimeLeft(now + min(REFRESH_TIMEOUT_S, self._timeout_s), REFRESH_TIMEOUT_S)
            reply = yield Attempt(Request("GET", "/v2"), door.url, timeouts)
            named = _doors_of(reply) if isinstance(reply, httpx.Response) else None
            if named is not None:
                self._doors.learn(named)

    def _ask(self, request: Request) -> Call[httpx.Response]:
        """A response with status 200.

        Raises:
            RemoteError: a door refused the request, and none that may be asked instead took it.
            UnavailableError: no door answered.
        """
        expires = time.monotonic() + self._timeout_s
        for attempt in itertools.count():
            reply, account = yield from self._ask_doors(request, expires)
            pause_s = self._pause_s(reply, attempt)
            if pause_s is None or time.monotonic() + pause_s >= expires:
                break
            yield Pause(pause_s)
        if reply.status_code != 200:
            told = [reply.headers.get(name, "") for name in ("retry-after", "error-code")]
            raise refusal(reply.status_code, reply.content, told[0], told[1], account)
        return reply

    def _ask_doors(self, request: Request, expires: float) -> Call[tuple[httpx.Response, str]]:
        """What one of the doors says, a refusal only where no other says anything else; and what the others did."""
        started = time.monotonic()
        deadline = expires if request.deadline_s is None else started + request.deadline_s
        tries = Tries(self._doors, expires, deadline, request.repeatable)
        refused: httpx.Response | None = None
        now, sent = started, request
        while (door := tries.next(now)) is not None:
            outcome = yield Attempt(sent, door.url, TimeLeft(expires, tries.connect_timeout_s(now)))
            if isinstance(outcome, httpx.Response) and outcome.status_code != 503:
                tries.answered()
                return outcome, ""
            now = time.monotonic()
            if isinstance(outcome, httpx.Response):
                refused = outcome
                tries.failed(
                    Failure.REFUSED, f"503: {error_text(outcome.content)}", now, _retry_after_s(outcome) or 0.0
                )
            else:
                assert outcome is not None
                tries.failed(_failure(outcome), str(outcome) or type(outcome).__name__, now)
            if request.within is not None:
                sent = request.within(deadline - now)
        if refused is None:
            raise tries.error()
        return refused, tries.asked

    def _pause_s(self, reply: httpx.Response, attempt: int) -> float | None:
        """How long to wait before the same request is sent again; None when the reply is to be taken."""
        if reply.status_code != 503 or attempt >= self._retries:
            return None
        asked_s = _retry_after_s(reply)
        return min(0.1 * 2.0**attempt if asked_s is None else asked_s, MAX_PAUSE_S)

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


def _infer_request(path: str, arrays: Mapping[str, Array], parameters: Mapping[str, Scalar]) -> Request:
    tensors, blobs = [], []
    for name, array in arrays.items():
        array = as_bytes(name, array) if array.dtype.kind in "USO" else array
        datatype = _datatype(name, array)
        blobs.append(encode(array))
        size = {"binary_data_size": len(blobs[-1])}
        tensors.append({"name": name, "datatype": datatype, "shape": array.shape, "parameters": size})
    deadline_s = _deadline_s(parameters)

    def within(left_s: float | None) -> Request:
        shorter = {} if left_s is None else {"deadline_ms": left_s * 1e3}
        head = orjson.dumps({"inputs": tensors, "parameters": {**parameters, **shorter, "binary_data_output": True}})
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


def _failure(error: httpx.TransportError) -> Failure:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        return Failure.UNREACHED
    lost = httpx.ReadError | httpx.WriteError | httpx.CloseError | httpx.RemoteProtocolError
    return Failure.LOST if isinstance(error, lost) else Failure.LATE


def _retry_after_s(reply: httpx.Response) -> float | None:
    asked = reply.headers.get("retry-after", "")
    return float(asked) if asked.isdigit() else None


def _doors_of(reply: httpx.Response) -> list[str] | None:
    """The doors that a server's metadata name; None where it does not say, or is another kind of server."""
    try:
        return [str(address) for address in reply.json()["doors"]["http"]]
    except (ValueError, KeyError, TypeError):
        return None


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
