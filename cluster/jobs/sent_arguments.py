"""The arguments of a run on their way to a job: specs, rows and runs in a parcel, all else in JSON's types."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from quorate.cluster.arguments.spec import spec_and_folder
from quorate.cluster.jobs.parcel import SPEC, Parcel, path_parcel, spec_parcel
from quorate.tuning.errors import TuningError

_SPECS, _ROWS, _RUNS = ("spec", "teacher"), ("data", "train", "unlabelled"), ("run", "resume")
# What other nodes do not need: this one reads it.
READ_ONCE = (*_ROWS, *_RUNS, "costs")

# (kind, value) by the name of an argument.
Told = dict[str, tuple[str, Any]]


@contextmanager
def packed(given: Mapping[str, Any], untrained: bool) -> Iterator[tuple[Told, Parcel]]:
    """The arguments, and the parcel that they are in; good while the context lasts.

    Args:
        given: by name.
        untrained: learned rules of the spec need no state yet.

    Raises:
        SpecError: a spec cannot be served.
        TuningError: an argument is an object of this process.
    """
    told: Told = {}
    parcel = Parcel()
    with ExitStack() as lasting:
        for name, value in given.items():
            if name == "folder":
                continue
            if value is None:
                told[name] = ("value", None)
            elif name in _SPECS:
                found, place = spec_and_folder(value, given.get("folder") if name == "spec" else None, untrained)
                told[name] = ("file", f"{name}/{SPEC}")
                parcel += lasting.enter_context(spec_parcel(found, place)).below(name)
            elif name in _ROWS or name in _RUNS:
                told[name] = ("run" if name in _RUNS else "file", f"{name}/{_path(name, value).resolve().name}")
                parcel += path_parcel(Path(value)).below(name)
            elif name == "costs":
                told[name], files = _costs(value)
                parcel += files
            elif name == "space":
                told[name] = ("space", value.model_dump(mode="json"))
            else:
                told[name] = ("value", _plain(name, value))
        yield told, parcel


def unpacked(told: Told, folder: Path, runs: Path) -> dict[str, Any]:
    """What ``packed`` was given, in the job.

    Args:
        folder: that the parcel has become.
        runs: where runs are copied to, which are written to.
    """
    return {name: _unpacked(kind, value, folder, runs) for name, (kind, value) in told.items()}


def _unpacked(kind: str, value: Any, folder: Path, runs: Path) -> Any:
    if kind == "file":
        return folder / value
    if kind == "files":
        return {output: folder / path for output, path in value.items()}
    if kind == "run":
        return shutil.copytree(folder / value, runs / Path(value).name)
    if kind == "space":
        from quorate.tuning.search.space import SearchSpace

        return SearchSpace.model_validate(value)
    return value


def _path(name: str, value: Any) -> Path:
    if not isinstance(value, str | Path):
        fix = "write them to a file and give its path, or run where the cluster's nodes are"
        raise TuningError(name, f"rows in memory (a {type(value).__name__}), and a job has files only", fix)
    if not Path(value).exists():
        raise TuningError(name, f"{value}: no such file or folder", "give the path of one")
    return Path(value)


def _costs(given: Any) -> tuple[tuple[str, Any], Parcel]:
    if isinstance(given, Mapping) and any(isinstance(one, str | Path) for one in given.values()):
        parcels = {output: path_parcel(_path("costs", one)).below(f"costs/{output}") for output, one in given.items()}
        paths = {output: parcel.files[0][1].path for output, parcel in parcels.items()}
        return ("files", paths), sum(parcels.values(), Parcel())
    if isinstance(given, str | Path):
        parcel = path_parcel(_path("costs", given)).below("costs")
        return ("file", parcel.files[0][1].path), parcel
    return ("value", _plain("costs", given)), Parcel()


def _plain(name: str, value: Any) -> Any:
    """In JSON's types, arrays and tuples as lists."""
    try:
        return json.loads(json.dumps(value, default=lambda one: one.tolist()))
    except (AttributeError, TypeError, ValueError):
        fix = "give it by name or as numbers, or run where the cluster's nodes are"
        raise TuningError(name, f"a {type(value).__name__}, which only this process has", fix) from None
