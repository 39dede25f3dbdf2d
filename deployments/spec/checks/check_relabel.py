"""Whether what a fusion's classes are answered as is other classes of it, in whole shares."""

from __future__ import annotations

import math
from collections.abc import Mapping

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.deployments.spec.schema import EnsembleSchema
from quorate.deployments.spec.suggestions import suggest
from quorate.fusion.registry import RULES

# One of several classes holds, and probabilities of one may be given to another.
RELABELLED = ("classification", "binary", "tokens")
_NEAR = 1e-6


def check_relabel(spec: EnsembleSchema, field: str, fusion: FusionSpec) -> None:
    """Raise SpecError for the first mistake in ``relabel``."""
    if not fusion.relabel:
        return
    field = f"{field}.relabel"
    _check_answer(spec, field, fusion)
    classes = spec.classes or ()
    for old, to in fusion.relabel.items():
        for name in (old, *to):
            if name not in classes:
                where = f"{field}.{old}"
                raise SpecError(where, f"'{name}' is not among the ensemble's classes", suggest(name, classes))
        _check_shares(f"{field}.{old}", old, to)


def _check_answer(spec: EnsembleSchema, field: str, fusion: FusionSpec) -> None:
    task, entry = spec.inferred_task, RULES[fusion.rule]
    if task not in RELABELLED or not spec.classes:
        found = "there are no classes" if not spec.classes else f"the task is {task}"
        raise SpecError(field, found, "remove it: it is for answers that are one of several classes")
    if entry.decides:
        found = f"rule '{fusion.rule}' gives decisions, not probabilities"
        raise SpecError(field, found, "remove it, or change the rule")
    if not any(fusion is spec.all_fusions[name] for name in spec.output_names):
        found = "this fusion is not the answer, and who reads it knows its classes by their names"
        raise SpecError(field, found, f"write it under {spec.output_name}")
    if fusion.conformal is not None:
        found = "sets of classes hold for the labels that they were fitted with"
        raise SpecError(field, found, "remove conformal, or train members on the labels of now and run quorate tune")


def _check_shares(field: str, old: str, to: Mapping[str, float]) -> None:
    total = math.fsum(to.values())
    if abs(total - 1) > _NEAR:
        found = f"the shares of '{old}' have the sum {total:.6g}"
        raise SpecError(field, found, f"let them have the sum 1, or name one class alone: {old}: {next(iter(to))}")
    if set(to) == {old}:
        raise SpecError(field, f"'{old}' is answered as itself", "remove it")
