"""Runs of tune, train, compress and sweep in a job: their arguments go there, the run's folder comes here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from quorate.cluster.jobs.bringing_home import Home
from quorate.cluster.jobs.call import call_in_job
from quorate.cluster.jobs.job_run import JobRun
from quorate.cluster.jobs.sent_arguments import packed
from quorate.cluster.local.connection import is_jobs_address
from quorate.deployments.display import Table
from quorate.tuning.errors import SweepError, TuningError

_HERE = ("address", "runs", "on_step", "on_progress", "callbacks", "predictions", "labels")


def through_jobs(operation: Callable[..., Any]) -> Callable[..., Any]:
    """The same, which runs in a job where its ``address`` is one of Ray's Jobs API, and then returns a ``JobRun``."""
    signature = inspect.signature(operation)

    @functools.wraps(operation)
    def called(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        if not is_jobs_address(given.get("address")):
            return operation(*args, **kwargs)
        return _run_in_job(operation.__name__, given)

    return called


def _run_in_job(operation: str, given: Mapping[str, Any]) -> JobRun:
    for name in ("callbacks", "predictions", "more"):
        if given.get(name):
            found, fix = "a job has nothing of this process", "leave it out, or run where the cluster's nodes are"
            raise TuningError(name, found, fix)
    say, on_progress = given.get("on_step") or (lambda step: None), given.get("on_progress")
    say_last = say if on_progress is None else partial(_said, on_progress)
    taken_up = _path(given.get("run" if operation == "resume" else "resume"))
    runs = Path(given.get("runs", "runs")) if taken_up is None else taken_up.parent
    settle = partial(_keep_origin, given) if operation == "sweep" else lambda run: None
    home = Home(runs, taken_up, say, say_last, settle)
    asked = {name: value for name, value in given.items() if name not in _HERE}
    if operation == "resume":
        asked |= _rows_of(Path(given["run"]), given.get("data"))
    with packed(asked, untrained=operation == "train") as (told, parcel):
        hear = {"runs": home.take, "progress": lambda api, words: _tell(on_progress, words)}
        done = call_in_job(given["address"], operation, {"told": told}, parcel, say, hear, computes=True)
    folder = home.places[done["folder"]]
    tables = tuple(Table(**table) for table in _here(done["tables"], home.places))
    return JobRun(folder, _here(done["report"], home.places), tables)


def _path(text: str | Path | None) -> Path | None:
    return None if text is None else Path(text)


def _rows_of(run: Path, data: Any) -> dict[str, Any]:
    """The rows of a sweep that is taken up, where files had them."""
    from quorate.tuning.search.settings import read_settings

    settings, _ = read_settings(run)
    found = settings.origin.get("data") if data is None else data
    if found is None:
        raise SweepError(str(run), "it was started with rows that only Python has", "give resume its rows, a file")
    return {"data": found}


def _keep_origin(given: Mapping[str, Any], run: Path) -> None:
    """Have the sweep say where its rows and its spec are here, to be taken up from here."""
    from quorate.tuning.search.settings import read_settings, save_settings

    settings, digests = read_settings(run)
    origin = {**settings.origin, "data": str(Path(given["data"]).resolve())}
    spec = given.get("spec")
    if spec is None or isinstance(spec, str | Path):
        origin["spec"] = str(Path(spec).resolve()) if spec else ""
    else:
        del origin["spec"]
    save_settings(run, settings.model_copy(update={"origin": origin}), digests)


def _tell(on_progress: Callable[[Any], None] | None, words: Mapping[str, Any]) -> None:
    from quorate.tuning.search.settings import Progress

    if on_progress is not None:
        on_progress(Progress(**words))


def _said(on_progress: Callable[[Any], None], sentence: str) -> None:
    _tell(on_progress, {"phase": "", "said": sentence})


def _here(said: Any, places: Mapping[str, Path]) -> Any:
    """The same with paths as they are here."""
    if isinstance(said, str):
        for there, place in places.items():
            said = said.replace(there, str(place))
        return said
    if isinstance(said, Mapping):
        return {key: _here(value, places) for key, value in said.items()}
    return [_here(value, places) for value in said] if isinstance(said, list) else said
