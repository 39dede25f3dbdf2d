"""What both clients say and understand: requests, answers, retries. Nothing here reads or writes a socket.

A call is a generator that yields what to send where, or how long to pause, and is sent what came of it; a client only
carries that out, with or without an event loop.
"""

# B rows

from __future__ import annotations

import itertools
import random
import ssl
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray

from quorate.deployments.client.curl import curl_line
from quorate.deployments.client.dead_peers import SOCKET_OPTIONS
from quorate.deployments.client.failover import DoorList, Failure, Tries, door_urls
from quorate.deployments.client.inputs import Frame, Metadata, as_input, by_name
from quorate.deployments.client.messages import Request, Scalar, infer_request, read_result
from quorate.deployments.client.remote_errors import error_text, refusal, told_by
from quorate.deployments.client.result import Result
from quorate.deployments.client.retry_budget import RetryBudget
from quorate.deployments.errors import RemoteRequestError, RequestError
from quorate.deployments.security.credentials import Credentials
from quorate.deployments.wire.class_names import read_classes
from quorate.deployments.wire.feedback import FeedbackReply, GivenLabel, dump_labels
from quorate.deployments.wire.limits import CLASSES_IN_ANSWERS

Array = NDArray[Any]
Inputs = Mapping[str, ArrayLike] | Frame
T = TypeVar("T")
H = TypeVar("H", httpx.Client, httpx.AsyncClient)
# However long an overloaded server would like it, a retry waits no longer.
MAX_PAUSE_S = 5.0
# What a client waits for a server to say where its doors are.
REFRESH_TIMEOUT_S = 1.0
# Keywords that are parameters of a request whatever the model's inputs are called; ``inputs`` takes any name.
PARAMETERS = frozenset({"deadline_ms", "timeout", "members", "explain", "priority"})
# What NumPy makes of Python's numbers and strings: such an array says nothing of the datatype that is meant.
_UNSAID = frozenset({np.dtype(np.float64), np.dtype(np.int64), np.dtype(object)})
# Before the server lets go of a connection that is idle (uvicorn: 5 s), so that none is lost under a request.
KEEPALIVE_S = 4.0
# Labels in one request.
SENT_LABELS = 10_000


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


@dataclass(frozen=True)
class _Described:
    """A model by its metadata: inputs by name, and what its first output's columns stand for."""

    inputs: Mapping[str, Metadata]
    classes: tuple[str, ...]


class Calls(ABC, Generic[H]):
    """What a client knows: where to ask, what it shows, and what it has learned of the models' inputs."""

    def __init__(
        self,
        url: str | Sequence[str],
        timeout_s: float = 30.0,
        credentials: Credentials | None = None,
        model: str = "",
        retries: int = 0,
        retry_share: float = 0.2,
        connections: int = 100,
    ):
        self._urls, self._timeout_s, self._model, self._retries = door_urls(url), timeout_s, model, retries
        self._doors = DoorList(self._urls)
        self._budget = RetryBudget(retry_share)
        self._credentials = credentials or Credentials()
        self._described: dict[str, _Described] = {}
        # Floats hardly compress; httpx would ask for it.
        headers = {"accept-encoding": "identity", **self._credentials.headers}
        tls = any(url.startswith("https:") for url in self._urls)
        verify = self._credentials.context() if tls else False
        # Through a proxy it is the proxy's connections that count, and httpx knows where it stands.
        sockets = None if urllib.request.getproxies() else SOCKET_OPTIONS
        pool = httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEPALIVE_S
        )
        self._http: H = self._open(headers, pool, verify, sockets)

    @abstractmethod
    def _open(
        self, headers: dict[str, str], pool: httpx.Limits, verify: ssl.SSLContext | bool, sockets: SocketOptions | None
    ) -> H:
        """One of httpx's clients."""

    def __repr__(self) -> str:
        model = f", model={self._model!r}" if self._model else ""
        return f"{type(self).__name__}({','.join(self._urls)!r}{model})"

    def _infer(self, model: str | Inputs, inputs: Inputs | None, named: Mapping[str, Any]) -> Call[Result]:
        outputs, named = _outputs_of(named)
        name, frame, arrays, parameters = yield from self._read(model, inputs, named)
        try:
            reply = yield from self._ask(infer_request(self._path(name, "/infer"), arrays, parameters, outputs))
        except RemoteRequestError:
            self._described.pop(name, None)  # the model may have changed since it was described
            raise
        result = read_result(reply)
        if not result.classes and _many(result):  # of very many classes answers do not say the names
            result = replace(result, classes=(yield from self._describe(name)).classes)
        return replace(result, index=getattr(frame, "index", None))

    def _curl(self, model: str | Inputs, inputs: Inputs | None, named: Mapping[str, Any]) -> Call[str]:
        outputs, named = _outputs_of(named)
        name, _, arrays, parameters = yield from self._read(model, inputs, named)
        url = self._urls[0] + self._path(name, "/infer")
        return curl_line(url, arrays, parameters, self._credentials, outputs)

    def _read(
        self, model: str | Inputs, inputs: Inputs | None, named: Mapping[str, Any]
    ) -> Call[tuple[str, Inputs | None, dict[str, Array], dict[str, Scalar]]]:
        """What a call asks: the model, the inputs as they were given and as arrays, and the parameters."""
        mapping = inputs if isinstance(model, str) else model
        name = self._named(model if isinstance(model, str) else "")
        given, parameters, undecided = _sorted_out({} if mapping is None else by_name(mapping), named)
        if undecided or not given or not all(map(_says_datatype, given.values())):
            known = (yield from self._describe(name)).inputs
            for key, value in undecided.items():
                (parameters if key not in known and isinstance(value, str | int | float) else given)[key] = value
            if mapping is not None and not isinstance(mapping, Mapping):  # a frame's other columns are not asked about
                given = {key: value for key, value in given.items() if key in known or key in named}
            return name, mapping, {key: _fitted(key, value, known) for key, value in given.items()}, parameters
        return name, mapping, {key: value for key, value in given.items() if isinstance(value, np.ndarray)}, parameters

    def _metadata(self, model: str) -> Call[dict[str, Any]]:
        reply = yield from self._ask(Request("GET", self._path(self._named(model))))
        data: dict[str, Any] = reply.json()
        return data

    def _models(self) -> Call[list[str]]:
        reply = yield from self._ask(Request("POST", "/v2/repository/index"))
        return [str(model["name"]) for model in reply.json()]

    def _publish(self, fusion: Mapping[str, Any], model: str) -> Call[None]:
        changes = dict(fusion)
        config = orjson.dumps(changes if changes.keys() == {"fusions"} else {"fusion": changes}).decode()
        body = orjson.dumps({"parameters": {"config": config}})
        path = f"/v2/repository/models/{quote(self._named(model), safe='')}/load"
        headers = {"content-type": "application/json"}
        yield from self._ask(Request("POST", path, body, headers, repeatable=False))

    def _feedback(self, given: Sequence[GivenLabel], model: str) -> Call[FeedbackReply]:
        """Labels, some at a time: one that is sent again where an answer was lost is told to be there already."""
        path, headers = self._path(self._named(model), "/feedback"), {"content-type": "application/json"}
        found = FeedbackReply.of([])
        for at in range(0, len(given), SENT_LABELS):
            body = dump_labels(given[at : at + SENT_LABELS])
            reply = yield from self._ask(Request("POST", path, body, headers))
            found = found.joined(FeedbackReply.read(reply.json()), at)
        return found

    def _describe(self, model: str) -> Call[_Described]:
        """What the server says of a model; asked once."""
        if model not in self._described:
            data = yield from self._metadata(model)
            outputs: list[Metadata] = data.get("outputs") or [{}]
            inputs = {item["name"]: item for item in data["inputs"]}
            self._described[model] = _Described(
                inputs, read_classes((outputs[0].get("parameters") or {}).get("classes"))
            )
        return self._described[model]

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
        self._budget.earn()
        for attempt in itertools.count():
            reply, account = yield from self._ask_doors(request, expires)
            pause_s = self._pause_s(reply, attempt)
            now = time.monotonic()
            if pause_s is None or now + pause_s >= expires or not self._budget.take(now):
                break
            yield Pause(pause_s)
        if reply.status_code != 200:
            told = told_by(reply.headers)
            raise refusal(reply.status_code, reply.content, told, account)
        return reply

    def _ask_doors(self, request: Request, expires: float) -> Call[tuple[httpx.Response, str]]:
        """What one of the doors says, a refusal only where no other says anything else; and what the others did."""
        started = time.monotonic()
        deadline = expires if request.deadline_s is None else started + request.deadline_s
        tries = Tries(self._doors, expires, deadline, request.repeatable)
        refused: httpx.Response | None = None
        now, sent = started, request
        while (door := tries.next(now)) is not None:
            if tries.again and not self._budget.take(now):
                break
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
        least_s = min(0.1 * 2.0**attempt if asked_s is None else asked_s, MAX_PAUSE_S)
        return least_s * random.uniform(1.0, 1.25)  # clients that were refused together do not come back together

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
        elif value is None:
            continue
        elif name in PARAMETERS and isinstance(value, str | int | float):
            parameters[name] = value
        else:
            undecided[name] = value
    return given, parameters, undecided


def _outputs_of(named: Mapping[str, Any]) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """The outputs that are asked for, none for all of them, and the other keywords."""
    outputs = named.get("outputs")
    if not isinstance(outputs, list | tuple) or not all(isinstance(name, str) for name in outputs):
        return (), named
    return tuple(outputs), {name: value for name, value in named.items() if name != "outputs"}


def _says_datatype(value: ArrayLike) -> bool:
    return isinstance(value, np.ndarray) and value.dtype not in _UNSAID and value.dtype.kind != "U"


def _fitted(name: str, value: ArrayLike, known: Mapping[str, Metadata]) -> Array:
    if isinstance(value, np.ndarray) and (name not in known or _says_datatype(value)):
        return value
    if name not in known:
        raise RequestError(f"'{name}' is no input of the model, which reads {', '.join(known)}")
    return as_input(value, known[name])


def _many(result: Result) -> bool:
    """Whether the columns may be more classes than an answer names."""
    first = next(iter(result.outputs.values()), None)
    return first is not None and first.ndim > 1 and first.shape[-1] > CLASSES_IN_ANSWERS and first.dtype.kind == "f"


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
