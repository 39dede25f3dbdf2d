"""Every spec that stands in this repository: YAML in its pages, and in tests what needs no call to be known."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quorate.deployments import EnsembleSpec, parse_spec
from quorate.deployments.spec.text.scalars import resolved
from quorate.deployments.spec.text.yaml_text import read_yaml
from quorate.fusion.errors import QuorateError

ROOT = Path(__file__).parents[3]
_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FIELDS = {"inputs", "members"}
_HARMLESS = {name: getattr(builtins, name) for name in ("dict", "list", "str", "range", "zip", "enumerate", "sorted")}


def every_spec() -> dict[str, EnsembleSpec]:
    """The valid ones, by where they stand; those that tests write to be refused are none."""
    found = {}
    for place, data in [*_in_pages(), *_in_tests()]:
        try:
            spec = parse_spec({"name": "unnamed", **data})
        except (QuorateError, TypeError):
            continue
        if spec.all_fusions:
            found[place] = spec
    return found


def _in_pages() -> Iterator[tuple[str, Any]]:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text()
        for block in _BLOCK.finditer(text):
            if "\nmembers:" in block[1]:
                yield (
                    f"{page.relative_to(ROOT)}:{text[: block.start()].count(chr(10)) + 2}",
                    resolved(read_yaml(block[1]), EnsembleSpec),
                )


def _in_tests() -> Iterator[tuple[str, Any]]:
    for path in [*sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))]:
        text = path.read_text()
        if "members" in text:
            module = ast.parse(text)
            for line, data in _dicts(module, _known(module.body, {})):
                yield f"{path.relative_to(ROOT)}:{line}", data


def _dicts(node: ast.AST, known: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    if isinstance(node, ast.FunctionDef):
        known = _known(node.body, known | _defaults(node.args, known))
    if isinstance(node, ast.Dict) and {key.value for key in node.keys if isinstance(key, ast.Constant)} >= _FIELDS:
        data = _value(node, known)
        if isinstance(data, dict):
            yield node.lineno, data
    for child in ast.iter_child_nodes(node):
        yield from _dicts(child, known)


def _known(body: list[ast.stmt], known: dict[str, Any]) -> dict[str, Any]:
    """Names that these statements give a value that needs no call."""
    found = dict(known)
    for statement in body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value = statement.targets[0], _value(statement.value, found)
            if isinstance(target, ast.Name) and value is not None:
                found[target.id] = value
    return found


def _defaults(arguments: ast.arguments, known: dict[str, Any]) -> dict[str, Any]:
    last = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    pairs = [
        *zip(last, arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    found = {argument.arg: _value(default, known) for argument, default in pairs if default is not None}
    return found | ({arguments.kwarg.arg: {}} if arguments.kwarg else {})


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    """What an expression is, if it calls nothing but harmless functions of Python; else None."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call) and not (isinstance(inner.func, ast.Name) and inner.func.id in _HARMLESS):
            return None
        if isinstance(inner, ast.Attribute | ast.Await | ast.Yield | ast.Lambda):
            return None
    try:
        return eval(compile(ast.Expression(node), "spec", "eval"), {"__builtins__": _HARMLESS, **known})
    except (NameError, TypeError, KeyError, ValueError, IndexError, AttributeError):
        return None
