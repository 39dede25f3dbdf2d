"""What a spec names outside itself: files, their digests, modules to import."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.digests import file_digest
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.model_formats import FACTORY, checkpoint_of, factory_of, format_of
from quorate.deployments.spec.schema import MemberSpec


def check_files(spec: EnsembleSpec, folder: Path) -> None:
    """Check what the spec names outside itself; paths are relative to ``folder``."""
    for name, member in spec.members.items():
        _check_model(f"members.{name}", member, folder)
    for name, fusion in spec.all_fusions.items():
        field = "fusion" if spec.fusion else f"fusions.{name}"
        if fusion.state:
            _check_file(f"{field}.state", folder / fusion.state)
        for fused, calibration in fusion.member_calibration.items():
            if calibration.state:
                _check_file(f"{field}.member_calibration.{fused}.state", folder / calibration.state)
        if fusion.calibration and fusion.calibration.state:
            _check_file(f"{field}.calibration.state", folder / fusion.calibration.state)


def _check_model(field: str, member: MemberSpec, folder: Path) -> None:
    checkpoint = checkpoint_of(member)
    if format_of(member.model) is FACTORY:
        module, _ = factory_of(member.model)
        _check_module(f"{field}.model", module, folder)
    if checkpoint:
        _check_file(f"{field}.{'model' if checkpoint == member.model else 'weights'}", folder / checkpoint)
    if member.digest and checkpoint:
        found = file_digest(folder / checkpoint)
        if found != member.digest:
            raise SpecError(
                f"{field}.digest",
                f"{checkpoint} has {found}",
                "restore the file, or update digest if the change was meant",
            )


def _check_file(field: str, path: Path) -> None:
    if not path.is_file():
        raise SpecError(field, f"there is no file {path}", "paths are relative to the spec file's folder")


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
