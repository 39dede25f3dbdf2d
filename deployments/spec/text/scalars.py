"""Scalars of a file as they are written, until the spec's fields say whether they are text or something else.

A class named 010, 1.10, 12:30, yes or null keeps its name, and so does every key. Elsewhere a scalar is what YAML 1.2
takes it for; one that older readers of YAML take for something else is refused, since nobody can tell which is meant.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from quorate.deployments.errors import SpecError

# Aliases of YAML may stand for the same value many times over.
MAX_VALUES = 200_000


@dataclass(frozen=True)
class Scalar:
    """A scalar without quotes.

    Attributes:
        text: as it is written.
        value: what it means where no text is wanted.
        other: what older readers of YAML take it for; the same as ``value`` where they agree.
        line, column: where it stands, from 1; 0 where that is not known.
    """

    text: str
    value: Any
    other: Any
    line: int = 0
    column: int = 0


def resolved(tree: Any, model: type[BaseModel]) -> Any:
    """Plain values of a tree of dicts, lists, strings and ``Scalar``, each as the model's field wants it.

    Raises:
        SpecError: a scalar that may be one thing or another, or more values than a spec has.
    """
    try:
        return _Resolver().resolve(tree, [model], ())
    except RecursionError:
        raise SpecError("spec", "it is nested too deep", "write it flatter") from None


class _Resolver:
    def __init__(self) -> None:
        self._values = 0

    def resolve(self, node: Any, kinds: Sequence[Any], path: tuple[str, ...]) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            raise SpecError("spec", f"it has over {MAX_VALUES} values", "write fewer, and fewer aliases")
        if isinstance(node, dict):
            return {key: self.resolve(value, _of_key(kinds, key), (*path, key)) for key, value in node.items()}
        if isinstance(node, list):
            return [self.resolve(value, _of_item(kinds), (*path, str(at))) for at, value in enumerate(node)]
        return _scalar(node, kinds, path) if isinstance(node, Scalar) else node


def _scalar(scalar: Scalar, kinds: Sequence[Any], path: tuple[str, ...]) -> Any:
    if scalar.value is None and type(None) in kinds:
        return None
    if any(kind is str or get_origin(kind) is Literal or getattr(kind, "may_be_a_word", False) for kind in kinds):
        return scalar.text
    if bool in kinds and isinstance(scalar.other, bool):
        return scalar.other
    if _same(scalar.value, scalar.other) or object in kinds:
        return scalar.value
    where = f" (line {scalar.line}, column {scalar.column})" if scalar.line else ""
    found = f"found {scalar.text}{where}, which readers of YAML take for {scalar.value!r} or for {scalar.other!r}"
    raise SpecError(".".join(path), found, "quote it, or write what is meant")


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and (one == other or (one != one and other != other))


def _kinds(annotation: Any) -> list[Any]:
    """What a field may be: its annotation, or the parts of a union."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [kind for part in get_args(annotation) for kind in _kinds(part)]
    return [annotation]


def _of_key(kinds: Sequence[Any], key: str) -> list[Any]:
    """What stands under a key; ``object`` where no field says it, which is an error of its own."""
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(key)
            return [object] if field is None else _kinds(field.annotation)
        if get_origin(kind) is dict:
            return _kinds(get_args(kind)[1])
        if get_origin(kind) is tuple:  # a mapping where a list may stand: the list's items are its values
            return _of_item([kind])
    return [Any]


def _of_item(kinds: Sequence[Any]) -> list[Any]:
    for kind in kinds:
        if get_origin(kind) in (tuple, list):
            return _kinds(get_args(kind)[0])
    return [Any]
