"""A live table of a sweep on a terminal: how many trials of each phase, and the best so far."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from quorate.tuning.search.settings import Progress

_PHASES = ("members", "measuring", "structures", "report")


@contextlib.contextmanager
def sweep_board(quiet: bool) -> Iterator[Callable[[Progress], None]]:
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
    from quorate.tuning.search.result import objective_text

    shown = Table("", "trials", "failed", "best so far")
    for phase in (name for name in _PHASES if name in seen):
        progress = seen[phase]
        best = ", ".join(f"{name} {objective_text(name, value)}" for name, value in (progress.best or {}).items())
        shown.add_row(phase, f"{progress.finished} of {progress.total}", str(progress.failed), best)
    return shown
