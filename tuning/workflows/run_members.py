"""Members run over the rows to solve on and to judge on, once: what they say of those that all of them answer."""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.fields.types import Task
from quorate.deployments.spec.schema import MemberJob
from quorate.fusion.registry import RULES
from quorate.tuning.alternatives.base import Outputs, as_lists
from quorate.tuning.data.flat_inputs import flat_inputs
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.predictions.answered_rows import rows_answered
from quorate.tuning.predictions.filling import FillReport
from quorate.tuning.predictions.out_of_fold import OutOfFold
from quorate.tuning.predictions.run_member import Inputs, Runner, tunable_members
from quorate.tuning.predictions.some_rows import Predicted
from quorate.tuning.predictions.store import PredictionStore

# Compared of one split at most: more show no gain that would matter.
MOST_ROWS = 10_000
VALIDATION, HELD_OUT = "validation", "held-out"
Say = Callable[[str], None]


def of_output(say: Say, output: str) -> Say:
    """Tells what happens next with the name of one of several outputs before it."""
    return lambda step: say(f"{output}: {step}")


@dataclass(frozen=True)
class Answered:
    """Predictions of both splits.

    Attributes:
        filled: which predictions were there and which were computed, by split.
        rows: numbers of the rows that every member answered, by split.
        left_out: how many others there are, by split.
        compared: numbers of the rows of ``solve`` and ``judge``, by split: all those that were answered, or a sample.
    """

    filled: Mapping[str, FillReport]
    rows: Mapping[str, NDArray[np.intp]]
    left_out: Mapping[str, int]
    compared: Mapping[str, NDArray[np.intp]]
    solve: Outputs
    judge: Outputs


def run_members(
    store: PredictionStore, spec: EnsembleSpec, folder: Path, validation: Labelled, held_out: Labelled, run: Runner,
    say: Say, out_of_fold: OutOfFold | None, memory_bytes: int, seed: int,
) -> Answered:  # fmt: skip
    """Fill the store and read it; see ``tune_fusion``.

    Raises:
        PredictionError, MemberLoadError: a member cannot be run, or fails on most rows.
    """
    splits = {VALIDATION: validation, HELD_OUT: held_out}
    filled = _fill(store, spec, folder, splits, run, say, out_of_fold)
    return read_members(store, spec, filled, validation, held_out, memory_bytes, seed)


def read_members(
    store: Predicted, spec: EnsembleSpec, filled: Mapping[str, FillReport], validation: Labelled, held_out: Labelled,
    memory_bytes: int, seed: int,
) -> Answered:  # fmt: skip
    """What members said of both splits, once they have been run.

    Raises:
        PredictionError: a member fails on most rows.
    """
    splits, names = {VALIDATION: validation, HELD_OUT: held_out}, spec.output_fusion.members
    answered = {split: rows_answered(store, split, names, len(rows)) for split, rows in splits.items()}
    task, levels = spec.inferred_task, spec.quantiles or ()
    compared = {
        split: _compared(store, split, names, rows, answered[split], memory_bytes, seed, task)
        for split, rows in splits.items()
    }
    solve, judge = (
        _outputs(store, split, names, rows, compared[split], task, levels) for split, rows in splits.items()
    )
    if RULES[spec.output_fusion.rule].moments:
        solve, judge = (replace(one, moments=True) for one in (solve, judge))
    left_out = {split: len(rows) - len(answered[split]) for split, rows in splits.items()}
    return Answered(filled, answered, left_out, compared, solve, judge)


def _fill(
    store: PredictionStore, spec: EnsembleSpec, folder: Path, splits: Mapping[str, Labelled],
    run: Runner, say: Say, out_of_fold: OutOfFold | None,
) -> dict[str, FillReport]:  # fmt: skip
    """Predictions of the splits; those of validation rows out of fold where told so."""
    if out_of_fold:
        say(f"training {len(tunable_members(spec))} members on {out_of_fold.folds} folds")
    return {
        split: store.fill(
            spec, folder, rows, split, announced(run, split, say), out_of_fold if split == VALIDATION else None
        )
        for split, rows in splits.items()
    }


def _compared(
    store: Predicted, split: str, names: tuple[str, ...], data: Labelled,
    answered: NDArray[np.intp], memory_bytes: int, seed: int, task: Task,
) -> NDArray[np.intp]:  # fmt: skip
    """Numbers of the rows that every member answered, or of a sample of them, without those that do not count."""
    rows, most = answered, min(MOST_ROWS, max(2, memory_bytes // store.row_bytes(split, names)))
    if len(rows) > most:
        rows = _sample(rows, most, data.groups[rows] if task == "ranking" and data.groups is not None else rows, seed)
    return rows if data.weights is None else rows[data.weights[rows] > 0]


def _outputs(
    store: Predicted, split: str, names: tuple[str, ...], data: Labelled, rows: NDArray[np.intp],
    task: Task, levels: tuple[float, ...],
) -> Outputs:  # fmt: skip
    """Predictions of these rows; of rankings a list a row."""
    weights, groups, times = (None if c is None else c[rows] for c in (data.weights, data.groups, data.times))
    weights = None if weights is None else weights / weights.mean()
    inputs = flat_inputs(data.inputs, rows) if data.labels.dtype.kind in "iu" else {}
    found = Outputs(
        names, store.take(split, names, rows), data.labels[rows], weights, groups, times, levels=levels, inputs=inputs
    )  # fmt: skip
    return as_lists(found, groups) if task == "ranking" and groups is not None else found


def _sample(rows: NDArray[np.intp], most: int, units: NDArray[Any], seed: int) -> NDArray[np.intp]:
    """So many rows about, of whole units."""
    known = np.unique(units)
    count = max(2, most * len(known) // len(rows))
    kept = np.random.default_rng(seed).choice(known, count, replace=False) if len(known) > count else known
    return rows[np.isin(units, kept)]


def announced(run: Runner, split: str, say: Say) -> Runner:
    """Says what it runs, on which rows."""

    def told(job: MemberJob, folder: Path, inputs: Inputs) -> NDArray[np.float32]:
        say(f"running {job.name} on {split} rows")
        return run(job, folder, inputs)

    return told
