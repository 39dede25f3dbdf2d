"""Members that are networks, trained on from their weights by rows that have come since: candidates beside the old."""

# N rows

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import parse_spec
from quorate.deployments.spec.model_formats import FACTORY, format_of
from quorate.tuning.composite.columns import labelled_columns
from quorate.tuning.composite.composite_job import CompositeJob
from quorate.tuning.composite.loss import Objective, task_of
from quorate.tuning.composite.run_job import run_job
from quorate.tuning.composite.trained_part import trained_part
from quorate.tuning.composite.trained_spec import save_by_content
from quorate.tuning.data.halves import halves
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.data.later.more_rows import joined_rows
from quorate.tuning.errors import DataError, TuningError
from quorate.tuning.predictions.row_parts import joined
from quorate.tuning.runs.run_folder import save_deployable
from quorate.tuning.training.epochs import Epoch, Training
from quorate.tuning.workflows.train_composite import is_network

# Of the new rows that train, for when to stop.
_STOP_SHARE = 4


@dataclass(frozen=True)
class TrainOn:
    """That members are trained on.

    Attributes:
        training: epochs, rates, seed; a tenth of the rate is that of a member with weights.
        seen: rows that the members were trained on before, beside which the new ones are learned: without them a member
            forgets what the new ones do not show.
    """

    training: Training = field(default_factory=Training)
    seen: Labelled | None = None


def trained_on(
    spec: EnsembleSpec, folder: Path, rows: Labelled, how: TrainOn, place: Path, say: Callable[[str], None]
) -> tuple[EnsembleSpec, tuple[str, ...]]:
    """The spec with candidates beside its members, deployable from ``place``, and what they are called.

    Args:
        rows: new ones, with inputs; a part of them says when to stop.
        place: a folder that is written to.

    Raises:
        TuningError: no member is a network with weights that reads the request alone.
        DataError: rows without inputs, or too few.
    """
    if not rows.inputs or len(rows) < 2 * _STOP_SHARE:
        found = f"{len(rows)} new rows to train on" if rows.inputs else "new rows without inputs"
        raise DataError(
            "more", found, "give rows with inputs (a record keeps them with inputs: true), hundreds of them"
        )
    names = [name for name in spec.output_fusion.members if _can_be(spec, name, folder)]
    if not names:
        fix = "leave train_on out: only factories of torch networks with weights that read request inputs are"
        raise TuningError("train_on", "no member that can be trained on", fix)
    stop, train = _parts(rows, how)
    data = save_deployable(spec, folder, place).model_dump(mode="json", exclude_defaults=True)
    for name in names:
        member = _trained(spec, folder, name, (train, stop), how.training, place, say)
        data["members"][_free(name, data["members"])] = {**data["members"][name], **member}
    candidates = tuple(name for name in data["members"] if name not in spec.members)
    answer = data["fusion"] if spec.fusion else data["fusions"][spec.output_name]
    answer |= {"rule": "mean", "members": [*spec.output_fusion.members, *candidates]}
    for stale in ("weights", "options", "state", "calibration", "member_calibration"):
        answer.pop(stale, None)
    return parse_spec(data), candidates


def _can_be(spec: EnsembleSpec, name: str, folder: Path) -> bool:
    member = spec.members[name]
    alone = set(member.inputs) <= set(spec.inputs)
    made = format_of(member.model) is FACTORY and member.weights is not None
    return alone and made and is_network(spec, name, folder)


def _parts(rows: Labelled, how: TrainOn) -> tuple[Labelled, Labelled]:
    """Rows to stop on, which are new ones, and to train on."""
    first, second = halves(rows.labels, rows.groups, None, how.training.seed)
    some, rest = halves(rows.labels[first], None if rows.groups is None else rows.groups[first], None, 0)
    stop, train = rows.rows(first[some]), rows.rows(np.sort(np.concatenate([first[rest], second])))
    if how.seen is None:
        return stop, train
    inputs = {name: joined([train.inputs[name], how.seen.inputs[name]]) for name in train.inputs}
    both = joined_rows([train, how.seen])
    return stop, Labelled(inputs, both.labels, both.classes)


def _trained(
    spec: EnsembleSpec, folder: Path, name: str, rows: tuple[Labelled, Labelled], training: Training, place: Path,
    say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """The weights of a member that is trained on, alone, as its spec names them."""
    data = spec.model_dump(mode="json", exclude_defaults=True, exclude={"digests", "fusion", "fusions", "output"})
    alone = parse_spec({**data, "members": {name: data["members"][name]}, "fusion": {"rule": "mean"}})
    part = trained_part(alone, [name])
    train, stop = (labelled_columns(alone, folder, part, one) for one in rows)
    objective = Objective(auxiliary=0.0, member_dropout=0.0)
    job = CompositeJob(alone, folder, part, task_of(rows[0]), train, stop, None, training, objective)

    def told(epoch: Epoch) -> None:
        say(f"training {name} on: epoch {epoch.number} of {training.epochs}, loss {epoch.validation_log_loss:.4f}")

    with tempfile.TemporaryDirectory(prefix="quorate-training-") as scratch:
        run = run_job(job, Path(scratch), told)
    (place / "artifacts").mkdir(exist_ok=True)
    weights, digest = save_by_content(run.model.composite.module(name), place, name)
    return {"weights": weights, "digest": digest}


def _free(name: str, taken: Any) -> str:
    """``cnn-2`` beside ``cnn``, ``cnn-3`` beside ``cnn-2``."""
    stem, _, number = name.rpartition("-")
    stem, at = (stem, int(number) + 1) if stem and number.isdecimal() else (name, 2)
    while f"{stem}-{at}" in taken:
        at += 1
    return f"{stem}-{at}"


def apart(labels: NDArray[Any], groups: NDArray[Any] | None, times: Any, seed: int) -> tuple[NDArray[np.intp], ...]:
    """Numbers of new rows to train on, to solve on and to judge on: a half judges, as without training."""
    first, judge = halves(labels, groups, times, seed)
    groups, times = (None if column is None else column[first] for column in (groups, times))
    train, solve = halves(labels[first], groups, times, seed)
    return first[train], first[solve], judge
