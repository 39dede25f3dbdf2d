"""Run one member over many rows, with the code that serves it: its probabilities under the ensemble's class names.

Torch is imported where a member is run: an actor that only reads a store starts a second earlier without it.
"""

# B batch, N rows, C classes

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.rows.uneven import batches
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.schema import MemberJob
from quorate.deployments.transport.row_state import RowState
from quorate.tuning.data.served_inputs import served_inputs
from quorate.tuning.errors import MemberPredictionError, TuningError

if TYPE_CHECKING:
    from quorate.deployments.members.predictor import Predictor

# What the one column of a member without classes is called.
VALUE = "value"
Inputs = Mapping[str, NDArray[Any]]
Runner = Callable[[MemberJob, Path, Inputs], NDArray[np.float32]]


def run_in_process(job: MemberJob, folder: Path, inputs: Inputs) -> NDArray[np.float32]:
    """Run a member here.

    Args:
        job: the member, as its replicas would get it.
        folder: what its paths start from.
        inputs: (N, *shape) each of its inputs; others are ignored. Rows of other lengths run with those of their own.

    Returns:
        (N, C) over the ensemble's classes, or (N, 1) values; a row that the member failed on is NaN.

    Raises:
        MemberLoadError: the member cannot be loaded.
        MemberPredictionError: it failed on every row.
    """
    from quorate.deployments.members.predictor import Predictor
    from quorate.deployments.sources.loading import load_model

    inputs = {**inputs, **served_inputs(inputs, job.inputs)}
    predictor = Predictor(load_model(job.name, job.member, folder), job)
    read = {name: inputs[name] for name in job.member.inputs}
    probs = _joined([predict_batch(predictor, job, batch) for batch in batches(read, job.member.max_batch_size)])
    if np.isnan(probs).all():
        why = predictor.last_error or "no output is finite"
        raise MemberPredictionError(job.name, f"every row failed ({why})", predictor.last_trace)
    return probs


def _joined(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """All batches; one without a row of use has told no width, and gets that of the others."""
    width = max(part.shape[1] for part in parts)
    blank = np.float32("nan")
    return np.concatenate(
        [part if part.shape[1] == width else np.full((len(part), width), blank, np.float32) for part in parts]
    )


def predict_batch(predictor: Predictor, job: MemberJob, inputs: Inputs) -> NDArray[np.float32]:
    """(B, C) probabilities, or all values of a row side by side, of one batch; NaN where the row is of no use."""
    values, status = predictor.run(inputs, probabilities=True)
    if values.shape[1] == 0:  # no row of the batch came through, so the model told no width
        values = np.zeros((len(status), len(job.classes or (VALUE,))), np.float32)
    return np.where((status == RowState.OK)[:, None], values.reshape(len(values), -1), np.float32("nan"))


def predicts_values(spec: EnsembleSpec) -> bool:
    """Whether the ensemble's fusion is of values, not of classes."""
    members = [spec.members[name] for name in spec.output_fusion.members if name in spec.members]
    return spec.classes is None and bool(members) and all(member.output == "values" for member in members)


def tunable_members(
    spec: EnsembleSpec, values: bool = False, heads: bool = False, tokens: bool = False
) -> tuple[str, ...]:
    """Members of the ensemble's fusion, in its order, if weights over them can be solved from labelled rows.

    Args:
        values: members that all predict values will do as well.
        heads: members that read other members or fusions will do as well.
        tokens: members whose rows are sequences of tokens will.

    Raises:
        TuningError: no classes, or a member that gives no class probabilities or reads what it may not.
    """
    if spec.of_tokens and not tokens:
        raise TuningError("task", str(spec.task), "tune its weights, by quorate tune with a table of tokens")
    wanted = ("values",) if values and predicts_values(spec) else ("logits", "probabilities")
    if spec.classes is None and "values" not in wanted:
        raise TuningError("classes", "the spec names none", "name the classes, labels are matched with them")
    names = spec.output_fusion.members
    for name in names:
        if name not in spec.members:
            raise TuningError(f"fusion.members.{name}", "it is a fusion", "tune a fusion that reads members alone")
        member = spec.members[name]
        if member.output not in wanted:
            raise TuningError(f"members.{name}.output", member.output, "tune members that give logits or probabilities")
        if not heads and not set(member.inputs) <= set(spec.inputs):
            found = f"it reads {', '.join(member.inputs)}"
            raise TuningError(f"members.{name}.inputs", found, "tune members that read request inputs alone")
    return tuple(names)
