"""One structure, evaluated on stored predictions: its rule fitted, its loss on other rows, its cost predicted."""

# M members, N rows, C classes, K columns of the table

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.fusion.base import Rule
from quorate.fusion.evaluation.measures import LEAST_PROBABILITY
from quorate.fusion.learned.cascade import Cascade, fit_cascade
from quorate.fusion.learned.stacking import fit_stacking
from quorate.fusion.loading import build_rule
from quorate.fusion.training import Training
from quorate.tuning.alternatives.base import Outputs
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.alternatives.reweighing.reweighted import searched_weights
from quorate.tuning.data.folds import Fold, stratified_folds
from quorate.tuning.evaluation.metrics.row_metrics import row_metric
from quorate.tuning.latency.curves import cascade_s
from quorate.tuning.search.structures.structure import Structure
from quorate.tuning.search.structures.table import Table
from quorate.tuning.solvers.simplex import simplex_weights

# A stack's fit is an optimisation of hundreds of numbers, the others' are solved in milliseconds.
_FOLDS, _STACK_FOLDS = 4, 2
# A member with less than this share of the weight costs what any other costs and moves no answer.
_LEAST_WEIGHT = 0.01
_WEIGHTED = ("weighted_mean", "geometric_mean", "soft_vote")
# No solver knows these: their weights are searched by log-loss.
_SEARCHED = ("weighted_vote", "borda", "reciprocal_rank", "dempster_shafer")


@dataclass(frozen=True)
class Evaluated:
    """A structure as it would be deployed, and what it is worth.

    Attributes:
        structure: without the members that got no weight.
        values: every objective by name.
    """

    structure: Structure
    values: Mapping[str, float]


def evaluate(structure: Structure, table: Table, seed: int = 0) -> Evaluated:
    """Fit the structure's rule and judge it on rows it was not fitted on.

    Raises:
        FusionError, TuningError: the rule cannot be fitted on these predictions.
    """
    structure = _pruned(structure, table)
    outputs, labels = table.rows_of(structure.members), table.labels
    present = _in_time(structure, table, seed)
    answered = present.sum(axis=0) >= structure.quorum
    fused = np.full(outputs.shape[1:], np.nan)
    for fit_on, judge_on in _folds(structure, labels, seed):
        judged = judge_on[answered[judge_on]]
        if len(judged):
            rule = fit_rule(structure, outputs[:, fit_on], labels[fit_on])
            parts = torch.from_numpy(outputs[:, judged]), torch.from_numpy(present[:, judged])
            fused[judged] = rule.fuse(*parts).values.numpy()
    values = {**_losses(fused, labels, answered), **cost(structure, table)}
    if not all(map(math.isfinite, values.values())):
        raise ValueError(f"the objective is not a number: {values}")
    return Evaluated(structure, values)


def fit_rule(structure: Structure, outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> Rule:
    """The structure's rule, fitted.

    Args:
        outputs: (M, N, C) of its members.
        labels: (N,).
    """
    names = structure.members
    tensors, truth = torch.from_numpy(outputs), torch.from_numpy(labels)
    if structure.rule == "stacking":
        training = Training(member_dropout=0.0 if len(names) == 1 else 0.1)
        return fit_stacking(names, tensors, truth, training=training, l2=structure.options["l2"])
    if structure.rule == "cascade":
        weights = simplex_weights(outputs, labels).values
        weights = np.maximum(weights, _LEAST_WEIGHT) / np.maximum(weights, _LEAST_WEIGHT).sum()
        return fit_cascade(
            names, structure.stages, tensors, truth,
            max_loss=structure.options["max_loss"], weights=[float(weight) for weight in weights],
        )  # fmt: skip
    if structure.rule in _SEARCHED:
        equal = Recipe(structure.rule, names, dict.fromkeys(names, 1.0))
        found = searched_weights(equal, Outputs(names, outputs, labels), row_metric("log_loss").loss)
        return build_rule(found.rule, names, found.weights, {})
    solved = None
    if structure.rule in _WEIGHTED:
        values = simplex_weights(outputs, labels).values
        solved = {name: float(value) for name, value in zip(names, values, strict=True)}
    return build_rule(structure.rule, names, solved, {})


def cost(structure: Structure, table: Table) -> dict[str, float]:
    """Predicted latency, device seconds and memory."""
    everyone = table.closure(structure.members)
    columns = [table.column(name) for name in everyone]
    seconds = {column.name: column.curve.row_s * (column.gpus or 1.0) for column in columns}
    if structure.rule == "cascade":
        stages = [table.step_s(stage) for stage in structure.stages]
        reached = _reached(structure, table)
        latency = cascade_s(stages, reached)
        work = cascade_s([sum(seconds[name] for name in stage) for stage in structure.stages], reached)
    else:
        latency = table.step_s(structure.members)
        work = sum(seconds.values())
    return {
        "p95_latency_s": min(latency, structure.deadline_s),
        "device_s_per_request": work,
        "memory_bytes": float(sum(column.memory_bytes for column in columns)),
    }


def _reached(structure: Structure, table: Table) -> list[float]:
    """Share of rows that reach each stage."""
    outputs = table.rows_of(structure.members)
    rule = fit_rule(structure, outputs, table.labels)
    assert isinstance(rule, Cascade)
    return rule.reached(torch.from_numpy(outputs))


def _pruned(structure: Structure, table: Table) -> Structure:
    """Without members that the solved weights leave out: a quorum of those that are left."""
    names = structure.members
    if structure.rule in _WEIGHTED and len(names) > 1:
        weights = simplex_weights(table.rows_of(names), table.labels).values
        names = tuple(name for name, weight in zip(names, weights, strict=True) if weight >= _LEAST_WEIGHT)
    content = {**structure.to_json(), "members": names, "quorum": min(structure.quorum, len(names))}
    return Structure.from_json(content)


def _in_time(structure: Structure, table: Table, seed: int) -> NDArray[np.bool_]:
    """(M, N) whether a member answers by the deadline, each row drawn from its measured forward passes."""
    shape = len(structure.members), len(table.labels)
    random = np.random.default_rng(seed)
    seconds = np.full(shape, table.overhead.of(len(structure.members)))
    for place, name in enumerate(structure.members):
        seconds[place] += table.serving_s(reads) if (reads := table.column(name).reads) else 0.0
        for one in table.closure([name]):
            seconds[place] += random.choice(np.asarray(table.column(one).curve.single_s), shape[1])
    return np.asarray(seconds <= structure.deadline_s)


def _folds(structure: Structure, labels: NDArray[np.int64], seed: int) -> list[Fold]:
    """Pairs of rows to fit on and rows to judge on; a rule without numbers to fit is judged on all at once."""
    if structure.rule not in (*_WEIGHTED, *_SEARCHED, "stacking", "cascade"):
        everything = np.arange(len(labels))
        return [(everything, everything)]
    return stratified_folds(labels, _STACK_FOLDS if structure.rule == "stacking" else _FOLDS, seed)


def _losses(fused: NDArray[Any], labels: NDArray[np.int64], answered: NDArray[np.bool_]) -> dict[str, float]:
    """A row without a quorum has no answer: it is wrong, and as good as knowing nothing."""
    rows = np.arange(len(labels))
    right = np.where(answered, fused[rows, labels], 1.0 / fused.shape[1])
    chosen = np.where(answered, np.nan_to_num(fused).argmax(axis=1), -1)
    return {
        "log_loss": float(-np.log(np.maximum(right, LEAST_PROBABILITY)).mean()),
        "error_rate": float((chosen != labels).mean()),
    }
