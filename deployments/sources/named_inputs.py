"""Inputs go to a model by their names, where its own parameters have them in another order."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn


class _Parameters(NamedTuple):
    """Names that a call may use, and whether it may use any other as well."""

    names: list[str]
    open: bool = False


def by_names(function: Callable[..., Any], inputs: Sequence[str], named: bool = False) -> Callable[..., Any]:
    """What takes the inputs in the order of the spec.

    A function that has a parameter of each one's name gets them by these, such as ``token_type_ids`` the third of a
    BERT's; any other gets them in the spec's order.

    Args:
        inputs: what the model calls them.
        named: the spec says so itself, so that they are also keywords of a function that takes any.
    """
    known = _parameters(function)
    fits = set(inputs) <= set(known.names) or (named and known.open)
    if known.names[: len(inputs)] == list(inputs) or not fits:
        return function
    return lambda *arrays: function(**dict(zip(inputs, arrays, strict=True)))


def unknown_name(function: Callable[..., Any], inputs: Sequence[str]) -> str | None:
    """What is said of names that a function's parameters do not have; None where it has them, or takes any."""
    known = _parameters(function)
    unknown = [name for name in inputs if name not in known.names]
    if not unknown or known.open:
        return None
    has = f"its parameters are {', '.join(known.names)}" if known.names else "its parameters have no names"
    return f"the model reads no '{unknown[0]}': {has}"


def _parameters(function: Callable[..., Any]) -> _Parameters:
    """None where they cannot be told, or the order is part of the program."""
    if isinstance(function, torch.fx.GraphModule):
        return _Parameters([])
    if isinstance(function, torch.jit.ScriptModule):
        method: Any = function.forward
        return _Parameters([argument.name for argument in method.schema.arguments[1:]])  # self
    try:
        parameters = inspect.signature(function.forward if isinstance(function, nn.Module) else function).parameters
    except (TypeError, ValueError):  # builtins tell no signature
        return _Parameters([])
    names = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return _Parameters(names, any(p.kind == p.VAR_KEYWORD for p in parameters.values()))
