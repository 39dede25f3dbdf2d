"""``quorate tune``: labelled rows in, a run folder with a better spec out."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from quorate.cluster.local.connection import connected
from quorate.deployments.errors import SpecError
from quorate.deployments.spec.ensemble import EnsembleSpec

if TYPE_CHECKING:
    from quorate.tuning import DecisionResult, Labelled, TuneResult


def tune(
    spec: EnsembleSpec,
    folder: Path,
    data: Path,
    label: str,
    runs: Path,
    seed: int = 0,
    address: str | None = None,
    quiet: bool = False,
    train: Path | None = None,
    folds: int = 5,
    epochs: int = 30,
) -> TuneResult:
    """Solve the weights on half of the rows and judge them on the other half.

    Args:
        spec: the ensemble; ``folder`` is what its paths start from.
        data: a table, or a folder of IDX files; ``label`` is the table's column of classes.
        runs: where the run's folder is made.
        seed: of the halves and of the folds.
        address: a Ray cluster to run the members on; this process when None.
        quiet: no progress.
        train: the rows that the members were trained on; weights are solved on them, out of fold, and all of ``data``
            judges.
        folds, epochs: of the members trained anew on folds of ``train``.

    Raises:
        DataError: the rows cannot be read or do not fit the spec.
        TuningError: the spec has members whose weights cannot be solved.
    """
    from rich.console import Console

    from quorate.tuning import OutOfFold, Training, idx_images, pick_runner, tune_weights

    out_of_fold = None
    if train is None:
        solved_on, judged_on = halves(read_rows(spec, data, label), seed)
    else:
        solved_on = idx_images(train, full=True).train if train.is_dir() else read_rows(spec, train, label)
        judged_on = read_rows(spec, data, label)
        out_of_fold = OutOfFold(folds, Training(epochs=epochs, seed=seed), seed)
    place = contextlib.nullcontext() if address is None else connected(address)
    with place, Console(stderr=True, quiet=quiet).status("running members") as status:
        return tune_weights(
            spec,
            folder,
            solved_on,
            judged_on,
            runs=runs,
            run=pick_runner(),
            on_step=status.update,
            seed=seed,
            out_of_fold=out_of_fold,
        )


def decide(
    spec: EnsembleSpec,
    folder: Path,
    data: Path,
    label: str,
    runs: Path,
    metric: str,
    seed: int = 0,
    address: str | None = None,
    quiet: bool = False,
) -> DecisionResult:
    """Search weights and biases for a metric of decisions on half of the rows and judge them on the other half.

    Args:
        metric: accuracy, balanced_accuracy or f1_macro.
    """
    from rich.console import Console

    from quorate.tuning import pick_runner, tune_decisions

    solved_on, judged_on = halves(read_rows(spec, data, label), seed)
    place = contextlib.nullcontext() if address is None else connected(address)
    with place, Console(stderr=True, quiet=quiet).status("running members") as status:
        return tune_decisions(
            spec, folder, solved_on, judged_on, metric, runs=runs, run=pick_runner(), on_step=status.update, seed=seed
        )


def halves(rows: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    """Two halves with the same mix of classes: shuffled within each class, then dealt out in turn."""
    import numpy as np

    order = np.lexsort((np.random.default_rng(seed).random(len(rows)), rows.labels))
    return rows.rows(np.sort(order[::2])), rows.rows(np.sort(order[1::2]))


def read_rows(spec: EnsembleSpec, data: Path, label: str) -> Labelled:
    """The labelled rows of a table, or the test file of a folder of IDX files.

    Raises:
        DataError, SpecError: they cannot be read, or do not fit the spec.
    """
    from quorate.tuning import idx_images, read_table

    if data.is_dir():
        return idx_images(data, full=True).test  # members may have seen the training file
    if spec.classes is None:
        raise SpecError("classes", "the ensemble has none, so labels cannot be matched", "name the classes in the spec")
    return read_table(data, {name: tensor.shape for name, tensor in spec.inputs.items()}, spec.classes, label)
