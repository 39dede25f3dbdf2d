"""What kind of file PyTorch has written, told without PyTorch, which would take seconds to say it."""

from __future__ import annotations

import pickletools
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from quorate.deployments.spec.model_files.torchscript_code import opening_word

Kind = Literal["TorchScript", "torch.export", "torch.save", "pickle", "other"]

# What torch.save wrote before it wrote archives: four pickles in a row, the first of them this number.
_LEGACY_MAGIC, _LEGACY_PICKLES = 0x1950A86A20F9469CFC6C, 4
# Top modules that torch.load(weights_only=True) takes something from; not the classes of its layers.
_PLAIN = frozenset({"torch", "collections", "_codecs", "numpy", "builtins", "__builtin__"})
_LAYERS = "torch.nn.modules."
# What readers of archives and of pickles raise for what is neither, sizes beyond any memory among it.
_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError, EOFError, OverflowError, MemoryError)


def kind_of(path: Path) -> Kind:
    """What a file is, by its own layout; its name says nothing."""
    names = _names(path)
    if names is None:
        with path.open("rb") as file:
            if file.read(1) != b"\x80":  # what a pickle starts with
                return "other"
            file.seek(0)
            return "torch.save" if _is_legacy(file) else "pickle"
    inner = {name.partition("/")[2] for name in names}
    if {"constants.pkl", "data.pkl"} <= inner:
        return "TorchScript"
    if "archive_format" in inner or any(name.startswith("models/") for name in inner):
        return "torch.export"
    return "torch.save" if "data.pkl" in inner else "other"


def foreign_class(path: Path) -> str | None:
    """A class or function that reading a file of torch.save would import, and that is no part of a state.

    None where there is none: then it can be read with ``weights_only``, as far as can be told from here.
    """
    try:
        return next(_imported(path), None)
    except _DAMAGE:
        return None


def why_not_run(path: Path) -> str:
    """Why a TorchScript program may not be run: it could open files, or cannot be read; empty where it may."""
    try:
        with zipfile.ZipFile(path) as archive:
            code = [e for e in archive.infolist() if e.filename.partition("/")[2].startswith("code/")]
            code = [entry for entry in code if entry.filename.endswith(".py")]
            sources = {_module_of(entry.filename): archive.read(entry).decode() for entry in code}
            if len(sources) < len(code):
                return "two parts of its code have one name"  # this reader gives the last of them, torch's the first
            word = opening_word(sources)
    except _DAMAGE as error:
        return f"its code cannot be read: {error or type(error).__name__}"
    return f"its code says '{word}', by which it could open files while it runs" if word else ""


def _module_of(entry: str) -> str:
    """``m/code/__torch__/nets.py`` has the classes of ``__torch__.nets``."""
    return entry.partition("/code/")[2].removesuffix(".py").replace("/", ".")


def _is_plain(name: str) -> bool:
    return name.partition(".")[0] in _PLAIN and not name.startswith(_LAYERS)


def _names(path: Path) -> list[str] | None:
    """The entries of an archive; None for another file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except _DAMAGE:
        return None


def _is_legacy(file: IO[bytes]) -> bool:
    try:
        return any(argument == _LEGACY_MAGIC for _, argument, _ in pickletools.genops(file))
    except _DAMAGE:
        return False


def _imported(path: Path) -> Iterator[str]:
    """``module.name`` of what the pickles of a file import, and a state does not."""
    names = _names(path)
    if names is None:
        with path.open("rb") as file:
            for _ in range(_LEGACY_PICKLES):
                yield from _globals(file)
        return
    with zipfile.ZipFile(path) as archive:
        for name in (name for name in names if name.partition("/")[2] == "data.pkl"):
            with archive.open(name) as entry:
                yield from _globals(entry)


def _globals(file: IO[bytes]) -> Iterator[str]:
    texts: list[str] = []
    for code, argument, _ in pickletools.genops(file):
        if code.name == "GLOBAL" and not _is_plain(name := str(argument).replace(" ", ".")):
            yield name
        elif code.name == "STACK_GLOBAL":  # of later protocols, which are never read with weights_only
            yield ".".join(texts[-2:])
        elif isinstance(argument, str):
            texts.append(argument)
