"""On which line of a spec file a field stands, read from the tree that YAML makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml


def spec_line(path: Path, field: str) -> str:
    """``digits.yaml:6`` of ``members.cnn.model``, or of the nearest key above it that is there; empty for none.

    Args:
        field: names with dots between them; those of a list are numbers.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):  # who reads it says what is wrong with it
        return ""
    lines = list(_lines(node, field.split(".")))
    return f"{path.name}:{lines[-1]}" if lines else ""


def _lines(node: yaml.Node | None, names: list[str]) -> Iterator[int]:
    """The line of each part of the path, until one is not there."""
    for name in names:
        found = _child(node, name)
        if found is None:
            return
        key, node = found
        yield key.start_mark.line + 1


def _child(node: yaml.Node | None, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == name), None)
    if isinstance(node, yaml.SequenceNode) and name.isdecimal() and int(name) < len(node.value):
        return node.value[int(name)], node.value[int(name)]
    return None
