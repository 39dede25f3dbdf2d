"""Inputs go to a model by their names, where its own parameters have them in another order."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn


def by_names(function: Callable[..., Any], inputs: Sequence[str]) -> Callable[..., Any]:
    """What takes the inputs in the order of the spec.

    A function that has a parameter of each one's name gets them by these, such as ``token_type_ids`` the third of a
    BERT's; any other gets them in the spec's order.
    """
    known = _parameters(function)
    if known[: len(inputs)] == list(inputs) or not set(inputs) <= set(known):
        return function
    return lambda *arrays: function(**dict(zip(inputs, arrays, strict=True)))


def _parameters(function: Callable[..., Any]) -> list[str]:
    """Names that a call may use; none where they cannot be told, or the order is part of the program."""
    if isinstance(function, torch.fx.GraphModule):
        return []
    if isinstance(function, torch.jit.ScriptModule):
        method: Any = function.forward
        return [argument.name for argument in method.schema.arguments[1:]]  # self
    try:
        parameters = inspect.signature(function.forward if isinstance(function, nn.Module) else function).parameters
    except (TypeError, ValueError):  # builtins tell no signature
        return []
    return [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
