"""The management paths of the HTTP door."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from quorate.deployments.errors import RequestError
from quorate.deployments.server.management import Management
from quorate.deployments.wire.json_tensors import parse_object, parse_parameters, parse_whole_object

Answer = Callable[[Management, Mapping[str, str], bytes], Any]

_MODEL = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
_REGION = r"/v2/(?P<kind>system|cuda)sharedmemory(?:/region/(?P<name>[^/]+))?"


def _index(management: Management, _: Mapping[str, str], body: bytes) -> Any:
    ready = parse_object(body).get("ready", False) if body else False  # Triton's client sends an empty body for all
    if not isinstance(ready, bool):
        raise RequestError(f"ready is {ready!r:.60}; give true or false")
    return management.index(ready)


def _trace(management: Management, at: Mapping[str, str], body: bytes) -> Awaitable[Any]:
    return management.trace(at["model"], _given(body))


def _given(body: bytes) -> Mapping[str, Any]:
    """Settings to be changed; none where the body is empty, as it is of a GET."""
    return parse_whole_object(body) if body else {}


def _load(management: Management, at: Mapping[str, str], body: bytes) -> Awaitable[None]:
    return management.load(at["model"], parse_parameters(parse_object(body)) if body else {})


def _regions(management: Management, at: Mapping[str, str], _: bytes) -> Any:
    management.check_region(at["kind"], at["name"])
    return []


_PATHS: list[tuple[re.Pattern[str], tuple[str, ...], Answer]] = [
    (re.compile(path), methods, answer)
    for path, methods, answer in (
        ("/v2/models/stats", ("GET",), lambda m, at, _: m.statistics()),
        (f"{_MODEL}/stats", ("GET",), lambda m, at, _: m.statistics(at["model"], at["version"])),
        (f"{_MODEL}/config", ("GET",), lambda m, at, _: m.config(at["model"], at["version"])),
        (r"/v2(?:/models/(?P<model>[^/]+))?/trace/setting", ("GET", "POST"), _trace),
        ("/v2/logging", ("GET", "POST"), lambda m, at, body: m.logging(_given(body))),
        ("/v2/repository/index", ("POST",), _index),
        (r"/v2/repository/models/(?P<model>[^/]+)/load", ("POST",), _load),
        (r"/v2/repository/models/[^/]+/unload", ("POST",), lambda m, at, _: m.unload()),
        (f"{_REGION}/status", ("GET",), _regions),
        (
            r"/v2/(?P<kind>system|cuda)sharedmemory/region/(?P<name>[^/]+)/register",
            ("POST",),
            lambda m, at, _: m.register_shared_memory(at["kind"], at["name"]),
        ),
        (f"{_REGION}/unregister", ("POST",), lambda m, at, _: m.unregister_shared_memory()),
    )
]


class Route:
    """One management path that was asked for.

    Attributes:
        methods: those it takes.
    """

    def __init__(self, methods: tuple[str, ...], answer: Answer, at: Mapping[str, str]):
        self.methods = methods
        self._answer, self._at = answer, at

    def answer(self, management: Management, body: bytes) -> Any:
        """What to send as JSON, or an awaitable of it; None for an empty body."""
        return self._answer(management, self._at, body)


def find_route(path: str) -> Route | None:
    for pattern, methods, answer in _PATHS:
        found = pattern.fullmatch(path)
        if found is not None:
            return Route(methods, answer, found.groupdict(default=""))
    return None
