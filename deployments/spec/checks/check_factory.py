"""Whether a factory beside the spec is there and takes its config, read from its source: nothing is imported or run."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.factory_code import code_place, module_source
from quorate.deployments.spec.model_formats import CONFIG_NAMES, factory_of
from quorate.deployments.spec.schema import MemberSpec
from quorate.deployments.spec.suggestions import suggest

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = _Function | ast.ClassDef


@dataclass(frozen=True)
class _Parameters:
    """Of a factory that is called with keyword arguments."""

    all: tuple[str, ...]
    required: tuple[str, ...]
    open: bool  # takes others too
    of_class: bool


def check_factory(field: str, member: MemberSpec, folder: Path) -> None:
    """Refuse a name that the module does not have, and settings that the factory does not take.

    What a module makes while it runs cannot be known before: such a module passes.

    Args:
        field: of the member.
        folder: of the spec; the current one is looked into as well.

    Raises:
        SpecError: names what is there.
    """
    module, attribute = factory_of(member.model)
    path = module_source(module, code_place(member.model, folder))
    if path is None:
        return
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = f" at line {error.lineno}" if isinstance(error, SyntaxError) else ""
        found = f"{path.name} is not Python{line}: {getattr(error, 'msg', error)}"
        raise SpecError(f"{field}.model", found, "correct it") from None
    statements = list(_at_module_level(tree.body))
    name = attribute.partition(".")[0]
    known = {word for statement in statements for word in _names(statement)}
    if {"*", "__getattr__"} & known or _is_module(path, name):
        return
    if name not in known:
        public = sorted(word for word in known if not word.startswith("_"))
        fix = suggest(name, public) if public else "define it there"
        raise SpecError(f"{field}.model", f"{module} has no '{name}'", fix)
    found_there = [s for s in statements if isinstance(s, _Definition) and s.name == name]
    parameters = _parameters(found_there[0]) if len(found_there) == 1 and name == attribute else None
    if parameters is not None:
        _check_config(field, member, parameters)


def classes_and_functions(path: Path) -> Iterator[tuple[str, tuple[str, ...] | None]]:
    """Those that a module makes, by name, with a class's base classes as they are written; None of a function.

    A file that is not Python has none.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for statement in tree.body:
        if isinstance(statement, _Definition):
            bases = tuple(map(ast.unparse, statement.bases)) if isinstance(statement, ast.ClassDef) else None
            yield statement.name, bases


def _check_config(field: str, member: MemberSpec, parameters: _Parameters) -> None:
    given = member.config
    if len(parameters.all) == 1 and parameters.all[0] in CONFIG_NAMES and parameters.all[0] not in given:
        return  # it is called with the whole
    for key in given:
        if key not in parameters.all and not parameters.open:
            fix = suggest(key, parameters.all) if parameters.all else "remove it"
            raise SpecError(f"{field}.config.{key}", f"{member.model} has no such parameter", fix)
    missing = [key for key in parameters.required if key not in given]
    if not parameters.of_class and set(missing) == set(member.model_inputs):
        return  # it is the model itself, which gets the settings with each call
    for key in parameters.required:
        if key not in given:
            raise SpecError(f"{field}.config", f"{member.model} needs '{key}'", f"write config: {{{key}: ...}}")


def _parameters(definition: _Definition) -> _Parameters | None:
    """None where they cannot be read: what decorators and base classes make of a definition is not in it."""
    if definition.decorator_list:
        return None
    skipped, of_class = 0, isinstance(definition, ast.ClassDef)
    if isinstance(definition, ast.ClassDef):
        made = [s for s in definition.body if isinstance(s, _Function) and s.name == "__init__"]
        if len(made) != 1 or made[0].decorator_list:
            return None
        definition, skipped = made[0], 1  # self
    spec = definition.args
    if spec.posonlyargs:
        return None
    plain = [a.arg for a in spec.args]
    needed = plain[skipped : len(plain) - len(spec.defaults)]
    keywords = [a.arg for a in spec.kwonlyargs]
    needed += [name for name, default in zip(keywords, spec.kw_defaults, strict=True) if default is None]
    return _Parameters((*plain[skipped:], *keywords), tuple(needed), spec.kwarg is not None, of_class)


def _at_module_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that name something in the module, those in its branches and loops too."""
    for statement in body:
        yield statement
        for block in ("body", "orelse", "finalbody"):
            if not isinstance(statement, _Definition):
                yield from _at_module_level(getattr(statement, block, ()))
        for handler in getattr(statement, "handlers", ()):
            yield from _at_module_level(handler.body)


def _names(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, _Definition):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
    else:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, ast.Name) and node.id in ("globals", "exec", "setattr"):
                yield "*"


def _is_module(path: Path, name: str) -> bool:
    return path.name == "__init__.py" and ((path.parent / f"{name}.py").exists() or (path.parent / name).is_dir())
