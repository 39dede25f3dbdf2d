"""What a model returned, made one array: the output that the spec means, of several; rows of class names by name."""

# B batch, K the model's own classes

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.deployments.spec.schema import MemberSpec
from quorate.deployments.wire.class_names import class_name

Array = NDArray[Any]
_HALF = (torch.bfloat16, torch.float16)


class OutputError(ValueError):
    """The model returned something that is not one row per input row, or not what the spec means."""

    def __init__(self, found: str, fix: str = "check output and classes in the spec"):
        super().__init__(found)
        self.found, self.fix = found, fix


def pick(output: Any, spec: MemberSpec) -> Any:
    """The one output that a member's spec means.

    Args:
        output: what the model returned: a tensor, an array, rows; or several of them in a mapping (a transformers
            ModelOutput is one), a dataclass or a tuple.

    Raises:
        OutputError: there is none of that name, or several and no name; it lists them.
    """
    if isinstance(output, torch.Tensor | np.ndarray) and spec.output_name is None:
        return output
    named = _by_name(output)
    if named is None:
        if spec.output_name is None:
            return output
        raise OutputError("the model returns one output without a name", f"remove output_name: {spec.output_name}")
    return named[choose({name: _described(value) for name, value in named.items()}, spec)]


def choose(outputs: Mapping[str, str], spec: MemberSpec) -> str:
    """The name of the output that a member's spec means.

    Args:
        outputs: what each is, by name, for errors.

    Raises:
        OutputError: as of ``pick``.
    """
    listed = ", ".join(f"{name} ({what})" for name, what in outputs.items())
    if spec.output_name is not None:
        if spec.output_name not in outputs:
            raise OutputError(f"the model gives no output '{spec.output_name}'", f"it gives {listed or 'none'}")
        return spec.output_name
    if len(outputs) == 1:
        _check_kind(listed, next(iter(outputs)), spec)
        return next(iter(outputs))
    meant = [name for name in outputs if any(word in name for word in _WORDS[spec.output])]
    exact = [name for name in meant if name in _WORDS[spec.output]] or meant
    if len(exact) == 1:
        return exact[0]
    if not outputs:
        raise OutputError("the model gives no output")
    shares = [name for name in outputs if any(word in name for word in _WORDS["probabilities"])]
    fix = f"say which is the member's output: output_name: {next(iter(outputs))}, or another"
    if shares and spec.output != "probabilities":
        fix = f"write output: probabilities for {shares[0]}, or say which by output_name"
    raise OutputError(f"the model gives {listed}", fix)


def _check_kind(listed: str, name: str, spec: MemberSpec) -> None:
    """Refuse logits by name where probabilities are meant, and the other way round: nothing else would tell."""
    for kind in {"logits", "probabilities"} - {spec.output} if spec.output in ("logits", "probabilities") else ():
        if any(word in name for word in _WORDS[kind]):
            fix = f"write output: {kind}, or output_name: {name} if that is meant"
            raise OutputError(f"the model gives {listed}, and the spec says output: {spec.output}", fix)


# How an output is called in models with several, by what the spec says it holds. A regression head of transformers
# calls its values logits.
_WORDS: Mapping[str, tuple[str, ...]] = {
    "logits": ("logits",),
    "probabilities": ("probabilities", "probability"),
    "values": ("values", "logits"),
    "features": ("features",),
}


def as_array(value: Any) -> tuple[Array, tuple[str, ...] | None]:
    """(B, ...) on the CPU, and the names of its K columns where rows are mappings of class names to numbers.

    Raises:
        OutputError: rows name different classes.
    """
    if isinstance(value, torch.Tensor):
        # NumPy has no bfloat16, and sums in half precision are none.
        value = value.float() if value.dtype in _HALF else value
        plain = value.is_cpu and not value.requires_grad  # as nearly always: a third of the time of the rest
        return (value if plain else value.detach().cpu()).numpy(), None
    if isinstance(value, Sequence) and value and all(isinstance(row, Mapping) for row in value):
        keys = list(value[0])
        if any(row.keys() != value[0].keys() for row in value):
            raise OutputError("the model's rows name different classes", "give every row all of them")
        return np.array([[row[key] for key in keys] for row in value]), tuple(map(class_name, keys))
    return np.asarray(value), None


def _by_name(output: Any) -> dict[str, Any] | None:
    """Several outputs by name; None for what is one."""
    if isinstance(output, Mapping):
        return _tensors(output)
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return _tensors({field.name: getattr(output, field.name) for field in dataclasses.fields(output)})
    if isinstance(output, tuple) and any(isinstance(part, torch.Tensor | np.ndarray) for part in output):
        names = getattr(output, "_fields", None) or map(str, range(len(output)))
        return _tensors(dict(zip(names, output, strict=True)))
    if isinstance(output, list) and any(isinstance(part, torch.Tensor) for part in output):
        return _tensors({str(place): part for place, part in enumerate(output)})
    return None


def _tensors(outputs: Mapping[Any, Any]) -> dict[str, Any]:
    """Those that may be a member's output; a loss, caches, states of all layers and what is missing are none."""
    kinds = (torch.Tensor, np.ndarray, list)
    return {str(n): v for n, v in outputs.items() if isinstance(v, kinds) and (isinstance(v, list) or v.ndim)}


def _described(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} rows"
    return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}"
