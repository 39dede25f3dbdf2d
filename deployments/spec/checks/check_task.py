"""What a task asks of members and fusions, beyond the type of each field."""

from __future__ import annotations

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.deployments.spec.fields.types import Task
from quorate.deployments.spec.schema import EnsembleSchema, TensorSpec, token_input
from quorate.fusion.registry import RULES

# What a task's answer is fused from.
_OUTPUTS = {
    "classification": ("logits", "probabilities"),
    "multilabel": ("logits", "probabilities"),
    "binary": ("logits", "probabilities"),
    "regression": ("values",),
    "quantiles": ("values",),
    "ranking": ("values",),
    "tagging": ("logits", "probabilities"),
    "tokens": ("logits", "probabilities"),
}
# Outputs beside the fused one.
TAGS, SPANS = "tags", "spans"


def check_task(spec: EnsembleSchema) -> None:
    """Raise SpecError for the first thing that does not fit the task, or that only tasks of tokens have."""
    _check_outputs(spec, spec.inferred_task, named=spec.task is not None)
    _check_quantiles(spec)
    _check_lists(spec)
    if spec.of_tokens:
        _check_tokens(spec)
        return
    if spec.lengths is not None:
        raise SpecError(
            "lengths", f"the task is {spec.task or 'none of tokens'}", "write task: tagging or task: tokens"
        )
    for name, fusion in spec.all_fusions.items():
        if RULES[fusion.rule].sequences:
            found = f"'{fusion.rule}' reads whole sequences of tokens"
            raise SpecError(f"{spec.field_of(name)}.rule", found, "write task: tagging, or use another rule")


def _check_outputs(spec: EnsembleSchema, task: Task, named: bool) -> None:
    if not named and task not in ("quantiles", "ranking"):
        return
    for name in spec.output_fusion.members:
        output = spec.members[name].output
        if output not in _OUTPUTS[task]:
            fix = f"give it output: {' or '.join(_OUTPUTS[task])}, or change the task"
            raise SpecError("task", f"it is {task}, but '{name}' gives {output}", fix)
    of_values = _OUTPUTS[task] == ("values",)
    if of_values and spec.classes is not None:
        raise SpecError("task", f"it is {task}, but there are classes", "remove classes, or change the task")
    if not of_values and task != "classification" and spec.classes is None:
        raise SpecError("classes", f"there are none, and the task is {task}", "name the classes")
    if task == "binary" and len(spec.classes or ()) != 2:
        raise SpecError("classes", f"{len(spec.classes or ())}, and the task is binary", "name two, or change the task")


def _check_quantiles(spec: EnsembleSchema) -> None:
    levels, task = spec.quantiles, spec.inferred_task
    if (task == "quantiles") != (levels is not None):
        found = f"the task is {task}" if levels else "there are none, and the task is quantiles"
        raise SpecError("quantiles", found, "name the levels that members predict, and no other task")
    if levels is None:
        return
    if not levels or not all(0 < level < 1 for level in levels) or list(levels) != sorted(set(levels)):
        raise SpecError("quantiles", f"{list(levels)}", "give levels above 0 and below 1, ascending")
    rule = spec.output_fusion.rule
    if not RULES[rule].ascending:
        known = ", ".join(name for name, entry in RULES.items() if entry.ascending)
        found = f"quantiles that rule '{rule}' fuses may cross"
        raise SpecError(f"{spec.field_of(spec.output_name)}.rule", found, f"use one of {known}")


def _check_lists(spec: EnsembleSchema) -> None:
    """A rule that ranks the rows of a request must be the answer's: inner fusions see rows of several requests."""
    for name, fusion in spec.all_fusions.items():
        if not RULES[fusion.rule].lists:
            continue
        if name != spec.output_name:
            found = f"'{fusion.rule}' ranks the rows of a request"
            raise SpecError(f"{spec.field_of(name)}.rule", found, "use it for the answer")
        if spec.inferred_task != "ranking":
            found = f"it is {spec.inferred_task}, but rule '{fusion.rule}' ranks rows"
            raise SpecError("task", found, "say ranking, or change the rule")


def _check_tokens(spec: EnsembleSchema) -> None:
    from quorate.fusion.sequences.tags import tag_scheme  # it brings NumPy, which other specs need not load

    if spec.task == "tagging" and tag_scheme(spec.classes or ()) is None:
        found = "they say no spans"
        raise SpecError("classes", found, "name them O, B-x and I-x, each I-x with its B-x; or write task: tokens")
    for name in (TAGS, SPANS):
        if name in {*spec.inputs, *spec.members, *spec.all_fusions}:
            raise SpecError(name, "an output of tagging is called so", "rename yours")
    if spec.lengths is not None:
        _check_lengths(spec.lengths, spec.inputs)
    for name, member in spec.members.items():
        first = token_input(member, spec.lengths)
        if first is None or (first in spec.inputs and not spec.inputs[first].shape):
            found = "its first input has no dimension of tokens"
            raise SpecError(f"members.{name}.inputs", found, "put first what holds its tokens, such as shape: [-1, 16]")
    for name, fusion in spec.all_fusions.items():
        _check_fusion(spec.field_of(name), fusion)


def _check_lengths(name: str, inputs: dict[str, TensorSpec]) -> None:
    tensor = inputs.get(name)
    if tensor is None:
        raise SpecError("lengths", f"'{name}' is no request input", f"choose from {', '.join(inputs)}")
    if tensor.shape not in ((), (1,)) or "INT" not in tensor.datatype:
        found = f"'{name}' is {tensor.datatype} {list(tensor.shape)}"
        raise SpecError("lengths", found, "let it be one whole number a row: datatype: INT32, shape: [1]")


def _check_fusion(field: str, fusion: FusionSpec) -> None:
    entry = RULES[fusion.rule]
    if entry.reads == ("features",):
        found, fix = f"'{fusion.rule}' fuses features", "let a member read the members"
        raise SpecError(f"{field}.rule", f"{found} of whole rows, and rows are tokens", fix)
    if entry.steered or (entry.decides and not entry.sequences):
        fix = "use a rule that fuses what all members say, such as weighted_mean"
        raise SpecError(f"{field}.rule", f"'{fusion.rule}' is for whole rows, and rows are tokens", fix)
    if fusion.decision is not None or fusion.conformal is not None:
        word = "decision" if fusion.decision is not None else "conformal"
        raise SpecError(f"{field}.{word}", "it is of whole rows, and rows are tokens", "remove it")
