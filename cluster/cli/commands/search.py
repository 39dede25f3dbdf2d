"""``quorate tune --search architecture`` and ``--resume``: labelled rows in, a run folder of deployable specs out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from quorate.cluster.cli.commands.tune import read_rows
from quorate.cluster.local.connection import connected
from quorate.deployments.spec.files import load_spec
from quorate.tuning.errors import DataError, SweepError

if TYPE_CHECKING:
    from quorate.tuning import Labelled, Splits, SweepResult
    from quorate.tuning.search.settings import Progress

_PHASES = ("members", "measuring", "structures", "report")
_SHOWN_PICKS = 5


@dataclass(frozen=True)
class Search:
    """What the command line asked for."""

    spec: Path
    data: Path
    label: str = "label"
    runs: Path = Path("runs")
    seed: int = 0
    trials: int = 200
    member_trials: int = 16
    epochs: int = 30
    objectives: Sequence[str] = ("log_loss", "p95_latency_s")
    time_s: float | None = None
    workers: int | None = None


def search(asked: Search, address: str | None, quiet: bool) -> SweepResult:
    """Search members and structures for the ensemble that a spec describes.

    Raises:
        QuorateError: the spec, the rows or the search cannot be used.
    """
    from quorate.tuning import SearchSpace, sweep

    spec = load_spec(asked.spec)
    origin = {"spec": str(asked.spec.resolve()), "data": str(asked.data.resolve()), "label": asked.label}
    rows = _split(_Rows(origin, asked.seed, asked.member_trials))
    objectives: Any = tuple(asked.objectives)  # checked by the sweep's own model
    with _place(address), _board(quiet) as tell:
        return sweep(
            spec, rows, space=SearchSpace(name=spec.name, epochs=asked.epochs), folder=asked.spec.parent,
            trials=asked.trials, member_trials=asked.member_trials, time_s=asked.time_s, seed=asked.seed,
            objectives=objectives, workers=asked.workers, runs=asked.runs, on_progress=tell, origin=origin,
        )  # fmt: skip


def resume(run: Path, time_s: float | None, address: str | None, quiet: bool) -> SweepResult:
    """Take up a sweep of the command line.

    Raises:
        QuorateError: there is none, another process runs it, or its rows are not what they were.
    """
    from quorate.tuning.search.settings import read_settings
    from quorate.tuning.search.sweep import resume_sweep

    settings, _ = read_settings(run)
    if "data" not in settings.origin:
        fix = "call quorate.tuning.resume_sweep with its rows"
        raise SweepError(str(run), "it was started from Python, with rows that only Python has", fix)
    rows = _split(_Rows(settings.origin, settings.seed, settings.member_trials))
    with _place(address), _board(quiet) as tell:
        return resume_sweep(run, rows, time_s=time_s, on_progress=tell)


def table(result: SweepResult) -> Group:
    """The Pareto set for people, the verdict on the best, and what to do next."""
    shown = Table("pick", "topology", "rule", "members", *result.objectives, "held-out log-loss")
    for place, pick in enumerate(result.pareto[:_SHOWN_PICKS]):
        values = [_number(name, pick.values[name]) for name in result.objectives]
        structure = pick.structure
        held_out = f"{pick.judgement.tuned.log_loss:.4f}"
        shown.add_row(str(place), structure.topology, structure.rule, ", ".join(structure.members), *values, held_out)
    lines = [
        f"{len(result.structures)} structures and {len(result.members)} members tried",
        result.verdict,
        f"quorate deploy {result.best.folder / 'spec.yaml'}",
        f"{result.folder / 'report.html'} shows it all",
    ]
    if not result.complete:
        lines.insert(1, f"the time was up; quorate tune --resume {result.folder} tries the rest")
    return Group(shown, *lines)


@dataclass(frozen=True)
class _Rows:
    """Where the rows come from, the same when a sweep is taken up again."""

    origin: dict[str, Any]
    seed: int
    member_trials: int


def _split(asked: _Rows) -> Splits:
    """Half to train on, a quarter to fit on, a quarter to judge on; halves of all where nothing is trained.

    Of MNIST's files the training file trains, the test file does the rest: given members may have seen the former.
    """
    from quorate.tuning import Splits, idx_images

    data, spec = Path(asked.origin["data"]), load_spec(Path(asked.origin["spec"]))
    if data.is_dir():
        splits = idx_images(data, seed=asked.seed)
        fit, judge = _halves(splits.test, asked.seed)
        return Splits(splits.train, fit, judge)
    rows = read_rows(spec, data, asked.origin["label"])
    if not asked.member_trials:
        return Splits(rows.rows(slice(0, 0)), *_halves(rows, asked.seed))
    train, rest = _halves(rows, asked.seed)
    return Splits(train, *_halves(rest, asked.seed + 1))


def _halves(rows: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    from quorate.cluster.cli.commands.tune import halves

    if len(rows) < 2:
        raise DataError("rows", f"{len(rows)}", "give hundreds")
    return halves(rows, seed)


@contextlib.contextmanager
def _place(address: str | None) -> Iterator[None]:
    """The cluster that is named; without one the sweep starts its own."""
    with contextlib.nullcontext() if address is None else connected(address):
        yield


@contextlib.contextmanager
def _board(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A live table of the best so far on a terminal; elsewhere only what is said."""
    console = Console(stderr=True, quiet=quiet, highlight=False)
    seen: dict[str, Progress] = {}
    with Live(console=console, transient=True, refresh_per_second=4) if console.is_terminal else _NoLive() as live:

        def tell(progress: Progress) -> None:
            if progress.said:
                console.print(progress.said, markup=False, soft_wrap=True)
                return
            seen[progress.phase] = progress
            live.update(_progress(seen))

        yield tell


class _NoLive:
    def __enter__(self) -> _NoLive:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, shown: object) -> None:
        pass


def _progress(seen: dict[str, Progress]) -> Table:
    shown = Table("", "trials", "failed", "best so far")
    for phase in (name for name in _PHASES if name in seen):
        progress = seen[phase]
        best = ", ".join(f"{name} {_number(name, value)}" for name, value in (progress.best or {}).items())
        shown.add_row(phase, f"{progress.finished} of {progress.total}", str(progress.failed), best)
    return shown


def _number(objective: str, value: float) -> str:
    if objective == "p95_latency_s":
        return f"{value * 1e3:.2f} ms"
    if objective == "memory_bytes":
        return f"{value / 2**20:.2f} MiB"
    return f"{value:.4g}"
