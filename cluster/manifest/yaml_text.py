"""Objects as YAML that Python and Go read alike, in the order in which they were made; long texts as blocks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

_WORD = re.compile(r"[A-Za-z/][^\x00-\x1f\"]+")


class _Dumper(yaml.SafeDumper):
    """Writes no anchors: the same object twice is text twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """In quotes unless it is plainly a word: to Go's parser y is true and 0o10 is 8."""
    style = "|" if "\n" in text else None if _WORD.fullmatch(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def dump(data: Any) -> str:
    """One document."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def dump_all(documents: Iterable[Any]) -> str:
    """Several, each behind ``---``."""
    return "".join(f"---\n{dump(document)}" for document in documents)
