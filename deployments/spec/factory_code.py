"""Which source files beside a spec make a factory's code: its module and what that imports from there."""

from __future__ import annotations

import ast
import hashlib
import site
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

from quorate.deployments.spec.model_formats import FACTORY, factory_of, format_of

_INSTALLED = [*dict.fromkeys(map(sysconfig.get_path, ("purelib", "platlib"))), site.getusersitepackages()]


def code_files(model: str, folder: Path) -> list[Path]:
    """The source files of a factory that lies beside the spec, from its folder, in the order of their names.

    What is installed is not among them: it is found first when the factory is loaded, and has versions of its own.
    """
    if format_of(model) is not FACTORY:
        return []
    found: set[Path] = set()
    waiting = [factory_of(model)[0].split(".")[0]]
    while waiting:
        for path in _beside(waiting.pop(), folder):
            if path not in found:
                found.add(path)
                waiting += _imported(path)
    return sorted(path.relative_to(folder) for path in found)


def module_source(module: str, folder: Path) -> Path | None:
    """The file of a module that lies beside the spec; None for what is installed, or is no file of source."""
    top, *rest = module.split(".")
    if not _beside(top, folder):
        return None
    place = folder.joinpath(top, *rest)
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def code_place(model: str, folder: Path) -> Path:
    """The folder whose source files a factory is made of: the spec's, or the current one where they lie there."""
    here = Path.cwd()
    return here if not code_files(model, folder) and code_files(model, here) else folder


def code_digest(model: str, folder: Path) -> str | None:
    """Digest of those files in a folder, their names among it; None where there are none."""
    files = code_files(model, folder)
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.as_posix()}\0".encode())
        digest.update(hashlib.sha256((folder / path).read_bytes()).digest())
    return f"sha256:{digest.hexdigest()}" if files else None


def _beside(module: str, folder: Path) -> list[Path]:
    """The files of a top module that is found in the folder, and nowhere before."""
    if module in sys.stdlib_module_names or PathFinder.find_spec(module, _INSTALLED) is not None:
        return []
    if (folder / f"{module}.py").is_file():
        return [folder / f"{module}.py"]
    package = folder / module
    return sorted(package.rglob("*.py")) if package.is_dir() else []


def _imported(path: Path) -> Iterator[str]:
    """The top modules that a file imports by their full names."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # whoever loads it says so
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]
