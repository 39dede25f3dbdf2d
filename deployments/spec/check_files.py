"""What a spec names outside itself: files, their digests, modules to import."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.checks.check_factory import check_factory
from quorate.deployments.spec.digests import file_digest
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.model_files.check_inputs import check_export_inputs, check_onnx_inputs
from quorate.deployments.spec.model_files.check_torch_file import check_torch_file
from quorate.deployments.spec.model_files.huggingface_folder import check_folder
from quorate.deployments.spec.model_formats import (
    CHECKPOINTS,
    FACTORY,
    HUGGING_FACE,
    ONNX,
    TORCH_EXPORT,
    TORCHSCRIPT,
    checkpoint_of,
    factory_of,
    format_of,
    model_path,
)
from quorate.deployments.spec.named_files import NamedFile, named_files, tokenizer_folders
from quorate.deployments.spec.schema import MemberSpec
from quorate.deployments.spec.suggestions import closest
from quorate.fusion.errors import MissingExtraError
from quorate.fusion.extras import missing_extra


def check_files(spec: EnsembleSpec, folder: Path) -> None:
    """Check what the spec names outside itself; paths are relative to ``folder``."""
    for name, member in spec.members.items():
        if format_of(member.model) is FACTORY:
            if member.python is None:  # what another environment has is not known here
                _check_module(f"members.{name}.model", factory_of(member.model)[0], folder)
            check_factory(f"members.{name}", member, folder)
    for file in named_files(spec):
        if "://" in file.path:
            fix = "nothing is ever fetched: download it, check what it is, and give the path of your copy"
            raise SpecError(file.field, f"'{file.path}' is an address, not a file", fix)
        if not (folder / file.path).exists():
            raise _missing(spec, file, folder)
        _check_kind(spec, file, folder / file.path)
        _check_content(spec, file, folder / file.path)
    for name, member in spec.members.items():
        _check_format(f"members.{name}", member, folder)
    for name, member in spec.members.items():
        checkpoint = checkpoint_of(member)
        if member.digest and checkpoint and (found := file_digest(folder / checkpoint)) != member.digest:
            fix = "restore the file, or update digest if the change was meant"
            raise SpecError(f"members.{name}.digest", f"{checkpoint} has {found}", fix)


def _missing(spec: EnsembleSpec, file: NamedFile, folder: Path) -> SpecError:
    """What is said of a file that is not there, or of a folder."""
    path = folder / file.path
    name = file.field.removeprefix("members.").removesuffix(".model")
    if name not in spec.members or format_of(spec.members[name].model) is not HUGGING_FACE:
        return SpecError(file.field, f"there is no file {path}", _nearest(path))
    if (folder / "hf.py").is_file():
        fix = "hf: names a folder of transformers, so give a module of factories another name than hf.py"
    else:
        fetch = f"nothing is fetched: of a hub, hf download {file.path} --local-dir {path.name}, and give that"
        fix = f"{_nearest(path)}; {fetch}"
    return SpecError(file.field, f"there is no folder {path}", fix)


def _nearest(path: Path) -> str:
    """What is there instead."""
    fix = "paths are relative to the spec file's folder"
    there = [found.name for found in path.parent.iterdir()] if path.parent.is_dir() else []
    close = closest(path.name, there)
    return f"did you mean '{close}'? {fix[0].upper()}{fix[1:]}" if close else fix


def _check_kind(spec: EnsembleSpec, file: NamedFile, path: Path) -> None:
    """A file where a file is asked for, and a folder where a format is one of folders."""
    _, name, field = file.field.split(".", 2) if file.field.startswith("members.") else ("", "", "")
    folder = field == "model" and format_of(spec.members[name].model).folder
    if folder is None or path.is_dir() == folder:
        return
    found, wanted = ("a folder", "a file") if path.is_dir() else ("a file", "a folder")
    raise SpecError(file.field, f"{path} is {found}", f"give the path of {wanted}")


def _check_format(field: str, member: MemberSpec, folder: Path) -> None:
    """What a format asks of its folder and settings, and of what is installed."""
    known = format_of(member.model)
    if known is HUGGING_FACE:
        check_folder(field, folder / (model_path(member.model) or ""), member.config, folder)
    for file in tokenizer_folders(field.partition(".")[2], member):
        if not (folder / file.path / "tokenizer.json").is_file():
            found = f"there is no tokenizer.json in {folder / file.path}"
            raise SpecError(file.field, found, "give a folder that a tokenizer's save_pretrained wrote")
    if known.module and member.python is None and importlib.util.find_spec(known.module) is None:
        missing = missing_extra(ModuleNotFoundError(name=known.module))
        raise MissingExtraError(f"{field}.model", known.module, missing.extra if missing else known.module)


def _check_content(spec: EnsembleSpec, file: NamedFile, path: Path) -> None:
    """What can be told of a member's file without what would run it."""
    part, _, rest = file.field.partition(".")
    name, _, field = rest.rpartition(".")
    known = format_of(spec.members[name].model) if part == "members" and field == "model" else None
    if known is ONNX:
        check_onnx_inputs(name, spec.members[name], spec.inputs, path)
    elif known is TORCH_EXPORT:
        check_export_inputs(name, spec.members[name], spec.inputs, path)
    elif known is TORCHSCRIPT or (field == "weights" and path.suffix in CHECKPOINTS):
        check_torch_file(file.field, file.path, path, model=known is TORCHSCRIPT)


def _check_module(field: str, module: str, folder: Path) -> None:
    before = list(sys.path)
    sys.path += [str(folder.resolve()), str(Path.cwd())]
    try:
        importlib.invalidate_caches()
        found = _find(module)
    finally:
        sys.path[:] = before
    if found is None:
        fix = "install it, or put it beside the spec or into the current folder"
        raise SpecError(field, f"there is no module '{module}'", fix)


def _find(module: str) -> ModuleSpec | None:
    """Find a module without importing its parents: importing torch would take longer than the whole check."""
    top, *parts = module.split(".")
    found = importlib.util.find_spec(top)
    for part in parts:
        if found is None or found.submodule_search_locations is None:
            return None
        # A package that is imported may have made its path longer than its spec says.
        places = getattr(sys.modules.get(found.name), "__path__", found.submodule_search_locations)
        found = PathFinder.find_spec(f"{found.name}.{part}", places)
    return found
