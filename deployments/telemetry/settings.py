"""What is traced and how logs are written: of one ensemble, on all its nodes, and changed while it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from quorate.deployments.errors import DeployError

LogFormat = Literal["default", "ISO8601", "json"]
# Where an endpoint is given and no ratio.
DEFAULT_RATIO = 0.01


@dataclass(frozen=True)
class TraceSettings:
    """Which requests are recorded: those whose caller records them, and a share of the others.

    Attributes:
        on: else none is.
        ratio: the share of those that come without a trace.
        count: so many of these at most, at each door; -1 for any number.
        times_counted: grows whenever ``count`` is set, so that it begins anew.
    """

    on: bool = False
    ratio: float = 0.001
    count: int = -1
    times_counted: int = 0


@dataclass(frozen=True)
class LogSettings:
    """What is written, and how.

    Attributes:
        format: of a line: text with the time as people read it or as ISO 8601 has it, or JSON.
        info: write lines that tell of no fault; likewise ``warning`` and ``error``.
        verbose: from 1 on a line for each request at the doors, from 2 on for each forward pass of a member too.
    """

    format: LogFormat = "default"
    info: bool = True
    warning: bool = True
    error: bool = True
    verbose: int = 0


@dataclass(frozen=True)
class Telemetry:
    """All of it.

    Attributes:
        endpoint: URL of the OTLP receiver, gRPC; where empty, what ``OTEL_EXPORTER_OTLP_ENDPOINT`` says on each node.
        models: fields of ``TraceSettings`` that are other for requests to a model, by its name.
    """

    endpoint: str = ""
    trace: TraceSettings = TraceSettings()
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    logs: LogSettings = LogSettings()

    def of(self, model: str) -> TraceSettings:
        """The settings for requests to a model."""
        return replace(self.trace, **self.models[model]) if model in self.models else self.trace

    @property
    def traces(self) -> bool:
        """Whether anything is recorded."""
        return self.trace.on or any(self.of(model).on for model in self.models)

    def to_json(self) -> bytes:
        return _TELEMETRY.dump_json(self)

    @classmethod
    def from_json(cls, stored: bytes | str) -> Telemetry:
        """What ``to_json`` gave; what another version wrote that this one cannot read is as if nothing had been set."""
        try:
            return _TELEMETRY.validate_json(stored)
        except ValidationError:
            return cls()


_TELEMETRY = TypeAdapter(Telemetry)


def check_told(endpoint: str | None, ratio: float | None, log_format: str | None) -> None:
    """Refuse what ``told`` cannot use.

    Raises:
        DeployError: with the option's name.
    """
    if endpoint and not re.fullmatch(r"https?://[^/\s@]+/?", endpoint):
        raise DeployError(f"--otlp-endpoint is '{endpoint}'; give the receiver's URL, such as http://collector:4317")
    if ratio is not None and not 0 <= ratio <= 1:
        raise DeployError(f"--trace-ratio is {ratio}; give a share from 0 to 1, such as 0.01")
    if log_format not in (None, "text", "json"):
        raise DeployError(f"--log-format is '{log_format}'; give text or json")


def told(old: Telemetry, endpoint: str | None, ratio: float | None, log_format: str | None) -> Telemetry:
    """Settings as ``deploy`` changes them; what is None stays as it was.

    Args:
        endpoint: turns traces on, or off where it is empty.
        log_format: text, or json.
    """
    new = old
    if endpoint is not None:
        trace = replace(old.trace, on=bool(endpoint), ratio=DEFAULT_RATIO if ratio is None else ratio)
        new = replace(new, endpoint=endpoint, trace=trace)
    elif ratio is not None:
        new = replace(new, trace=replace(old.trace, on=True, ratio=ratio))
    if log_format is not None:
        written: LogFormat = "json" if log_format == "json" else "default"
        new = replace(new, logs=replace(old.logs, format=written))
    return new
