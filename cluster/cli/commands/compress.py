"""``quorate compress``: a cheaper ensemble of the same name, and what it loses."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from quorate.cluster.cli.commands.tune import halves, read_rows
from quorate.cluster.local.connection import connected
from quorate.deployments.spec.ensemble import EnsembleSpec

if TYPE_CHECKING:
    from rich.console import Group

    from quorate.tuning import Compression


def compress(
    spec: EnsembleSpec,
    folder: Path,
    train: Path,
    data: Path,
    label: str,
    runs: Path,
    student: str | None = None,
    width: int | None = None,
    temperature: float = 2.0,
    alpha: float = 0.3,
    epochs: int = 30,
    tolerance: float = 0.01,
    seed: int = 0,
    address: str | None = None,
    quiet: bool = False,
) -> Compression:
    """Distil, quantise and average members; solve on half of ``data`` and judge on the other half.

    Args:
        spec: the ensemble; ``folder`` is what its paths start from.
        train: a table of rows for the student, or a folder of IDX files, whose training file is read.
        data: a table of other rows, or a folder of IDX files, whose test file is read.
        student: family of the student; no student when None. ``width`` is its own default when None.
        temperature, alpha, epochs: of the distillation.
        tolerance: nats per row that a smaller ensemble may lose.

    Raises:
        DataError: the rows cannot be read or do not fit the spec.
        TuningError: the spec has members that cannot be tuned, or the student cannot be built.
    """
    from rich.console import Console

    from quorate.tuning import Distillation, Training, idx_images, pick_runner
    from quorate.tuning import compress as compressed

    config = None
    if student is not None:
        config = {"family": student} if width is None else {"family": student, "width": width}
    rows = idx_images(train, full=True).train if train.is_dir() else read_rows(spec, train, label)
    solved_on, judged_on = halves(read_rows(spec, data, label), seed)
    how = Distillation(temperature, alpha, Training(epochs=epochs, seed=seed))
    place = contextlib.nullcontext() if address is None else connected(address)
    with place, Console(stderr=True, quiet=quiet).status("running members") as status:
        return compressed(
            spec,
            folder,
            rows,
            solved_on,
            judged_on,
            student=config,
            how=how,
            tolerance=tolerance,
            runs=runs,
            run=pick_runner(),
            on_step=status.update,
        )


def table(result: Compression) -> Group:
    """The candidates for people."""
    from rich.console import Group
    from rich.table import Table

    shown = Table("", "log-loss", "lost, nats per row", "accuracy", "lost", "KiB", "ms at 1 row", "at 64")
    for name, one in result.candidates.items():
        lost, fewer = one.log_loss_lost, one.accuracy_lost
        shown.add_row(
            name,
            f"{one.log_loss:.4f}",
            f"{lost.difference:+.4f} ({lost.low:+.4f} to {lost.high:+.4f})",
            f"{one.accuracy:.4f}",
            f"{fewer.difference:+.4f} ({fewer.low:+.4f} to {fewer.high:+.4f})",
            f"{one.bytes / 1024:.1f}",
            *(f"{one.latency_ms[batch]:.2f}" if batch in one.latency_ms else "" for batch in (1, 64)),
        )
    left_out = [f"no {name}: {why}" for name, why in result.skipped.items()]
    picked = f"smallest that loses at most {result.tolerance:g} nats: {result.pick}"
    return Group(shown, *left_out, picked, f"quorate deploy {result.candidates[result.pick].folder / 'spec.yaml'}")
