"""What is traced and how logs are written, as Triton's clients read and set it.

Source: Triton's protocol extensions "trace" and "logging". Traces are OpenTelemetry's: where they go is the
operator's to say, and no setting of a client.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, cast, get_args

from quorate.deployments.engine.engine import Engine
from quorate.deployments.errors import RequestError, UnavailableError, UnsupportedError
from quorate.deployments.telemetry.settings import LogFormat, Telemetry, TraceSettings
from quorate.fusion.errors import MissingExtraError

# Has all doors of the ensemble go by what a function makes of the settings, and returns that.
Configure = Callable[[Callable[[Telemetry], Telemetry]], Awaitable[Telemetry]]

_TRACE = ("trace_level", "trace_rate", "trace_count")
_OF_FILES = ("trace_file", "log_frequency")
_LEVELS = ("OFF", "TIMESTAMPS")
_LOGS = ("log_info", "log_warning", "log_error", "log_verbose_level", "log_format")
_MOST = 2**31 - 1


class TelemetrySettings:
    """Of one engine, and where ``configure`` is given of all that serve the ensemble."""

    def __init__(self, engine: Engine, configure: Configure | None = None):
        self._engine, self._configure = engine, configure

    def trace(self, model: str = "") -> dict[str, str | list[str]]:
        """The settings for requests to a model, or to those that have none of their own."""
        telemetry = self._engine.tracer.settings
        found = telemetry.of(model)
        told: dict[str, str | list[str]] = {
            "trace_level": ["TIMESTAMPS" if found.on else "OFF"],
            "trace_rate": str(round(1 / found.ratio) if found.ratio else 0),
            "trace_count": str(self._engine.tracer.left(model)),
            "trace_mode": "opentelemetry",
        }
        return {**told, "url": telemetry.endpoint} if telemetry.endpoint else told

    async def change_trace(self, given: Mapping[str, Any], model: str = "") -> None:
        """Change those that are given; None is the default's, of a model that of all.

        Raises:
            RequestError: a value is none, or a setting is not for clients.
            UnavailableError: what records traces is not installed, or the change cannot be kept.
        """
        changed: dict[str, Any] = {}
        for name, value in given.items():
            changed |= _trace_field(name, value)
        await self._change(lambda old: _with_trace(old, model, changed))

    def logs(self) -> dict[str, str | bool | int]:
        found = self._engine.tracer.settings.logs
        return {
            "log_file": "",
            "log_info": found.info,
            "log_warning": found.warning,
            "log_error": found.error,
            "log_verbose_level": found.verbose,
            "log_format": found.format,
        }

    async def change_logs(self, given: Mapping[str, Any]) -> None:
        """As ``change_trace``; None leaves a setting as it is."""
        changed: dict[str, Any] = {}
        for name, value in given.items():
            if value is not None:
                changed |= _log_field(name, value)
        await self._change(lambda old: replace(old, logs=replace(old.logs, **changed)))

    async def _change(self, change: Callable[[Telemetry], Telemetry]) -> None:
        try:
            await self._engine.telemetry.use(change(self._engine.tracer.settings))
            if self._configure is not None:
                await self._engine.telemetry.use(await self._configure(change))
        except MissingExtraError as error:
            raise UnavailableError(str(error)) from None


def _with_trace(old: Telemetry, model: str, changed: Mapping[str, Any]) -> Telemetry:
    """``changed`` has None for fields that go back to what they are by default."""
    if "count" in changed:
        changed = {**changed, "times_counted": old.of(model).times_counted + 1}
    if not model:
        default = TraceSettings()
        return replace(old, trace=replace(old.trace, **{
            name: getattr(default, name) if value is None else value for name, value in changed.items()
        }))  # fmt: skip
    own = {**old.models.get(model, {}), **changed}
    own = {name: value for name, value in own.items() if value is not None}
    if "count" not in own:
        own.pop("times_counted", None)
    models = {name: of for name, of in {**old.models, model: own}.items() if of}
    return replace(old, models=models)


def _trace_field(name: str, value: Any) -> dict[str, Any]:
    if name == "trace_file":
        raise UnsupportedError("trace file location can not be updated through network protocol; traces go out by OTLP")
    if name in _OF_FILES:
        raise RequestError(f"{name} is about trace files, and traces go out by OTLP; leave it out")
    if name not in _TRACE:
        raise RequestError(f"'{name[:60]}' is no trace setting; give {', '.join(_TRACE)}")
    if name == "trace_level":
        return {"on": None if value is None else _level(value)}
    if name == "trace_rate":
        rate = None if value is None else _number(name, value, 0)
        return {"ratio": None if rate is None else 1 / rate if rate else 0.0}
    return {"count": None if value is None else _number(name, value, -1)}


def _level(value: Any) -> bool:
    levels = [value] if isinstance(value, str) else value
    if isinstance(levels, list) and "TENSORS" in levels:
        raise RequestError("trace_level TENSORS is not supported: rows stay out of traces; give TIMESTAMPS")
    if not isinstance(levels, list) or not levels or any(level not in _LEVELS for level in levels):
        raise RequestError(f"trace_level is {value!r:.60}; give a list of OFF or TIMESTAMPS")
    if len(set(levels)) > 1:
        raise RequestError("Expect only one trace level 'OFF' is specified; give OFF or TIMESTAMPS")
    return bool(levels[0] == "TIMESTAMPS")


def _number(name: str, value: Any, least: int) -> int:
    text = value[0] if isinstance(value, list) and len(value) == 1 else value
    if type(text) is not int and not (isinstance(text, str) and re.fullmatch(r"-?\d{1,12}", text)):
        raise RequestError(f"Unable to parse '{name}', got: {value!r:.60}; give a whole number from {least}")
    number = int(text)
    if not least <= number <= _MOST:
        raise RequestError(f"Unable to parse '{name}', got: {number}; give a whole number from {least} to {_MOST}")
    return number


def _log_field(name: str, value: Any) -> dict[str, Any]:
    if name == "log_file":
        raise UnsupportedError("log file location can not be updated through network protocol; quorate logs reads it")
    if name not in _LOGS:
        raise RequestError(f"'{name[:60]}' is no log setting; give {', '.join(_LOGS)}")
    if name == "log_verbose_level":
        if type(value) is not int or not 0 <= value <= _MOST:
            raise RequestError(f"log_verbose_level is {value!r:.60}; give a whole number from 0")
        return {"verbose": value}
    if name == "log_format":
        if value not in get_args(LogFormat):
            raise RequestError(f"log_format is {value!r:.60}; give {', '.join(get_args(LogFormat))}")
        return {"format": cast(LogFormat, value)}
    if not isinstance(value, bool):
        raise RequestError(f"{name} is {value!r:.60}; give true or false")
    return {name.removeprefix("log_"): value}
