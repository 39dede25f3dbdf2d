"""YAML: into a tree whose scalars keep their text, and out of plain values."""

from __future__ import annotations

import re
from typing import Any

import yaml

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.text.scalars import Scalar

_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"(~|null|Null|NULL|)")
_BOOL = re.compile(r"(true|True|TRUE)|(false|False|FALSE)")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def read_yaml(text: str) -> Any:
    """A tree of dicts with text as keys, lists, strings and ``Scalar``.

    Raises:
        SpecError: it is no YAML, or a key is given twice; with line and column.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else _Tree(loader).of(node, ())
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise _no_yaml(error) from None
    except SpecError:
        raise
    except Exception as error:  # beside its own, PyYAML lets out what int(), datetime() and a dict's key raise
        raise SpecError("spec", f"not YAML: {error}", "correct the syntax") from None


def write_yaml(data: Any) -> str:
    """Plain values as YAML that ``read_yaml`` reads as the same."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Loader(yaml.SafeLoader):
    """SafeLoader whose scalars say whether a tag was written before them."""

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        tag = self.peek_event().tag  # type: ignore[no-untyped-call]
        node: yaml.ScalarNode = super().compose_scalar_node(anchor)
        node.tag_is_written = tag is not None  # type: ignore[attr-defined]
        return node


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes text which YAML 1.2 takes for a number, not 1.1 alone."""


_Dumper.add_implicit_resolver(
    f"{_TAG}float", re.compile(f"^(?:{_FLOAT.pattern}|{_INT.pattern})$"), list("-+0123456789.")
)


class _Tree:
    def __init__(self, loader: _Loader):
        self._loader = loader
        self._done: dict[int, Any] = {}
        self._open: set[int] = set()

    def of(self, node: yaml.Node, path: tuple[str, ...]) -> Any:
        if id(node) not in self._done:
            if id(node) in self._open:
                raise SpecError(_name(path), f"it holds itself {_where(node)}", "write it out")
            self._open.add(id(node))
            self._done[id(node)] = self._made(node, path)
            self._open.discard(id(node))
        return self._done[id(node)]

    def _made(self, node: yaml.Node, path: tuple[str, ...]) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node, self._loader, path)
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self.of(item, (*path, str(at))) for at, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and kind == "map":
            _check_keys(node, path)
            self._loader.flatten_mapping(node)  # what is merged comes first, and own keys go before it
            return {key.value: self.of(value, (*path, key.value)) for key, value in node.value}
        raise SpecError(_name(path), f"not YAML that a spec may hold: the tag {node.tag} {_where(node)}", "remove it")


def _check_keys(node: yaml.MappingNode, path: tuple[str, ...]) -> None:
    lines: dict[str, int] = {}
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise SpecError(_name(path), f"a key that is no text {_where(key_node)}", "write keys as words")
        key = key_node.value
        if key in lines:
            first = f"first on line {lines[key]}"
            raise SpecError(_name((*path, key)), f"the key is given twice {_where(key_node)}, {first}", "remove one")
        lines[key] = key_node.start_mark.line + 1


def _scalar(node: yaml.ScalarNode, loader: _Loader, path: tuple[str, ...]) -> Any:
    kind = node.tag.removeprefix(_TAG)
    written: bool = node.tag_is_written  # type: ignore[attr-defined]
    if kind not in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge"):
        raise SpecError(_name(path), f"not YAML that a spec may hold: the tag {node.tag} {_where(node)}", "remove it")
    if written and kind != "str":
        return loader.construct_object(node)
    if written or node.style is not None:
        return node.value
    other = loader.construct_object(node) if kind in ("int", "float", "bool", "null") else node.value
    value = _core(node.value)
    if isinstance(other, str):
        other = value
    return Scalar(node.value, value, other, node.start_mark.line + 1, node.start_mark.column + 1)


def _core(text: str) -> Any:
    """What a scalar without quotes is by the core schema of YAML 1.2.2 (section 10.3.2)."""
    if _NULL.fullmatch(text):
        return None
    if found := _BOOL.fullmatch(text):
        return found[1] is not None
    if _INT.fullmatch(text):
        return int(text) if text[:2] not in ("0o", "0x") else int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(re.sub(r"\.(?=[a-zA-Z])", "", text))  # .inf and .nan are Python's without the point
    return text


def _no_yaml(error: yaml.YAMLError) -> SpecError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
    problem = " ".join(str(getattr(error, "problem", None) or error).split())[:200]
    if "'\\t'" in problem:
        return SpecError("spec", f"not YAML{where}: a tab", "indent with spaces")
    return SpecError("spec", f"not YAML{where}: {problem}", "correct the syntax")


def _where(node: yaml.Node) -> str:
    return f"(line {node.start_mark.line + 1}, column {node.start_mark.column + 1})"


def _name(path: tuple[str, ...]) -> str:
    return ".".join(path) or "spec"
