"""What decides a sweep's result, kept in its folder; and, apart from it, how the sweep is run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quorate.deployments.atomic_files import write_whole
from quorate.tuning.errors import SweepError
from quorate.tuning.search.budget import Budget
from quorate.tuning.search.journal import content_digest
from quorate.tuning.search.space import Objective, SamplerName, SearchSpace

_FILE = "sweep.json"


class Settings(BaseModel):
    """All that decides what a sweep does, beside the data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: SearchSpace
    trials: int = Field(ge=1)
    member_trials: int = Field(ge=0)
    objectives: tuple[Objective, ...] = Field(min_length=1)
    sampler: SamplerName
    seed: int = Field(ge=0)
    parallel: int = Field(ge=1)
    origin: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Where a sweep is.

    Attributes:
        phase: members, heads, measuring or structures; empty with ``said``.
        finished, failed, total: trials of the phase.
        best: of the best trial so far, its values; of members, their log-loss alone.
        said: something the user should know, once.
    """

    phase: str
    finished: int = 0
    failed: int = 0
    total: int = 0
    best: Mapping[str, float] | None = None
    said: str | None = None


@dataclass(frozen=True)
class RunOptions:
    """How a sweep is run: nothing here changes what it finds, except when the time is up.

    Attributes:
        budget: the time there is, counted from when it was made.
        workers: trials to run at once; as many as the cluster has room for when None.
        callbacks: ``ray.tune.Callback`` objects.
        on_progress: told what happens.
        check: how many of the picks are served once, to compare their predicted latency with a measured one.
    """

    budget: Budget = field(default_factory=Budget)
    workers: int | None = None
    callbacks: tuple[Any, ...] = ()
    on_progress: Callable[[Progress], None] | None = None
    check: int = 1

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise SweepError("workers", f"{self.workers}", "give at least 1, or None for as many as there is room for")


def make_settings(**values: Any) -> Settings:
    """Settings from a caller's arguments.

    Raises:
        SweepError: one of them is out of range.
    """
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SweepError(".".join(map(str, first["loc"])), f"{first['input']!r}", first["msg"].lower()) from None


def check_unused(folder: Path) -> None:
    """Make sure that a folder holds no sweep yet.

    Raises:
        SweepError: it holds one.
    """
    if (folder / _FILE).exists():
        fix = f"quorate tune --resume {folder}, or another folder"
        raise SweepError(str(folder), "it holds a sweep already", fix)


def save_settings(folder: Path, settings: Settings, digests: Mapping[str, str]) -> None:
    """Write the settings and the digests of the rows: from then on the folder holds a sweep that can be taken up."""
    content = {"settings": settings.model_dump(mode="json"), "data": dict(digests)}
    write_whole(folder / _FILE, json.dumps({"digest": content_digest(content), **content}, indent=1).encode())


def read_settings(folder: Path) -> tuple[Settings, dict[str, str]]:
    """Settings of a sweep and the digests of its rows.

    Raises:
        SweepError: the folder holds no sweep, or its file is not as it was written.
    """
    try:
        content = json.loads((folder / _FILE).read_bytes())
        if content.pop("digest") != content_digest(content):
            raise ValueError("digest")
        return Settings(**content["settings"]), dict(content["data"])
    except OSError:
        raise SweepError(str(folder), f"it has no {_FILE}", "give the folder of a sweep") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        found = f"{_FILE} is damaged ({type(error).__name__})"
        raise SweepError(str(folder), found, "start a new sweep in another folder") from None
