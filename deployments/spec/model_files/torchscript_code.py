"""Whether the code of a TorchScript program could open files, read without PyTorch: loading a program runs some of it.

What opens files is an operator, called as ``torch.save(...)``, ``ops.aten.save(...)`` or on any value, ``x.save(...)``.
Names of one's own may be the same: methods, attributes and variables called so are told from it by the classes that the
program declares. Where this reader might understand another program than PyTorch's, the word alone refuses.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping

_WORDS = ("save", "from_file", "load_tensor")
_WORD = re.compile(rf"\b({'|'.join(_WORDS)})\b")
# Escapes, comments, long strings and letters beyond ASCII: two readers may disagree about what they hold.
_DOUBTFUL = re.compile(r"[\\#\f\0]|\"\"\"|'''|[^\x00-\x7f]")


def opening_word(sources: Mapping[str, str]) -> str | None:
    """The word by which a program could open files; None where there is none.

    Args:
        sources: its code by the name of each module, such as ``__torch__.nets``.
    """
    said = {module: text for module, text in sources.items() if _WORD.search(text)}
    if not said:
        return None
    doubt = next((text for text in sources.values() if _DOUBTFUL.search(text)), None)
    try:
        trees = {module: ast.parse(text) for module, text in sources.items()}
    except (SyntaxError, ValueError, RecursionError):
        doubt = next(iter(said.values()))
    if doubt is not None:
        return _first(next(iter(said.values())))
    parts = [(module, node) for module, tree in trees.items() for node in tree.body]
    classes = {f"{module}.{node.name}": node for module, node in parts if isinstance(node, ast.ClassDef)}
    for module, text in said.items():
        others: Counter[str] = Counter(_WORD.findall(text)) - Counter(_own_words(trees[module], classes))
        if others:
            return next(iter(others))
    return None


def _first(text: str) -> str:
    found = _WORD.search(text)
    return found[0] if found else ""


def _own_words(tree: ast.Module, classes: Mapping[str, ast.ClassDef]) -> Iterator[str]:
    """The words where a module says them and means something of its own."""
    for part in tree.body:
        methods = part.body if isinstance(part, ast.ClassDef) else [part]
        for method in methods:
            types = _types(part, method, classes)
            for node in ast.walk(method):
                yield from _own(node, types)


def _own(node: ast.AST, types: Mapping[str, ast.ClassDef]) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _WORD.findall(node.value)
    if isinstance(node, ast.Attribute):
        owner = types.get(node.value.id) if isinstance(node.value, ast.Name) else None
        return [node.attr] if owner is not None and node.attr in _declared(owner) else []
    names = (getattr(node, field, None) for field in ("name", "arg", "id"))  # of functions, parameters, variables
    return [name for name in names if name in _WORDS]


def _types(owner: ast.stmt, method: ast.stmt, classes: Mapping[str, ast.ClassDef]) -> dict[str, ast.ClassDef]:
    """The classes of ``self`` and of variables that are given one of its attributes, once, in a method."""
    if not isinstance(owner, ast.ClassDef) or not isinstance(method, ast.FunctionDef):
        return {}
    given = [node for node in ast.walk(method) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    unsure = {name.id for name in given if sum(other.id == name.id for other in given) > 1}
    unsure |= {parameter.arg for parameter in ast.walk(method) if isinstance(parameter, ast.arg)}
    first = method.args.args[0].arg if method.args.args else ""
    found: dict[str, ast.ClassDef] = {} if first in {name.id for name in given} else {first: owner}
    for node in ast.walk(method):
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute)):
            continue
        target, value = node.targets[0], node.value
        of_self = isinstance(value.value, ast.Name) and found.get(value.value.id) is owner
        if of_self and isinstance(target, ast.Name) and target.id not in unsure:
            kind = classes.get(_declared(owner).get(value.attr, ""))
            if kind is not None:
                found[target.id] = kind
    return found


def _declared(owner: ast.ClassDef) -> dict[str, str]:
    """What a class has of its own: its attributes with their types, and its methods."""
    found = {node.name: "" for node in owner.body if isinstance(node, ast.FunctionDef)}
    for node in owner.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = ast.unparse(node.annotation)
    return found
