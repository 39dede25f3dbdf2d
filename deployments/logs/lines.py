"""One line of a log: as people read it, or as JSON, with whom the process worked for when it was written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from quorate.deployments.telemetry.call_context import CallContext
from quorate.deployments.telemetry.current import works_for
from quorate.deployments.telemetry.settings import LogFormat, LogSettings

LogLevel = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Writer:
    """Who writes.

    Attributes:
        node: the address of the node that it runs on.
    """

    ensemble: str
    member: str
    replica: str
    node: str = ""


def wanted(settings: LogSettings, level: LogLevel) -> bool:
    """Whether lines of a level are written."""
    return {"info": settings.info, "warning": settings.warning, "error": settings.error}[level]


def written(text: str, level: LogLevel, form: LogFormat, writer: Writer) -> str:
    """A line as it is kept, without its end; in JSON the whole of a text of several lines is one."""
    whom, now = works_for(), time.time()
    if form == "json":
        return _json(text, level, writer, whom, now)
    at = _iso(now) if form == "ISO8601" else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    return f"{at} {_ids(whom)}{text}"


def _json(text: str, level: LogLevel, writer: Writer, whom: CallContext | None, now: float) -> str:
    said: dict[str, Any] = {
        "time": _iso(now), "level": level.upper(), "ensemble": writer.ensemble, "member": writer.member,
        "replica": writer.replica, "node": writer.node,
    }  # fmt: skip
    if whom is not None:
        first, *others = [_named(*request) for request in whom.requests]
        said |= {"revision": whom.revision, **first, "span_id": f"{whom.span.span_id:016x}"}
        if others:
            said["batched_with"] = others
    return orjson.dumps({**said, "message": text}).decode()


def _named(request: str, trace: str) -> dict[str, str]:
    return {"request_id": request, "trace_id": trace} if request else {"trace_id": trace}


def _ids(whom: CallContext | None) -> str:
    if whom is None:
        return ""
    asked = ", ".join(f"request {request}, trace {trace}" if request else f"trace {trace}"
                      for request, trace in whom.requests)  # fmt: skip
    return f"[revision {whom.revision}, {asked}] "


def _iso(now: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
