"""The models of a folder: each as a spec would name it."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.checks.check_factory import classes_and_functions
from quorate.deployments.spec.model_formats import (
    CHECKPOINTS,
    FACTORY,
    FORMATS,
    SKOPS,
    TORCHSCRIPT,
    WEIGHTS_SUFFIX,
    format_of,
)

# A folder with such a file in it is a model of this scheme.
_FOLDERS = {"config.json": "hf", "adapter_config.json": "hf", "MLmodel": "mlflow"}
# Suffixes that other files have, too: what stands at the beginning of a model.
_BEGINNINGS = {".json": b'"learner"', ".txt": b"tree"}
_LOOKED_AT = 1 << 16
_PICKLES = (".joblib", ".pkl", ".pickle")
# Functions that make a model, and what a network's base classes are called.
_MAKERS, _BASES = re.compile(r"^(build|make|create|get|load)(_|$)|^(model|net|network)$"), re.compile(r"Module$|Net$")


@dataclass(frozen=True)
class FoundModel:
    """A model, as a member of a spec.

    Attributes:
        weights: of a factory; None for a model that holds its own.
    """

    name: str
    model: str
    weights: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def member(self) -> dict[str, Any]:
        """The fields of a member that say what it is."""
        found = {"model": self.model, "config": dict(self.config), "weights": self.weights}
        return {name: value for name, value in found.items() if value}


def find_models(
    folder: Path, factories: Mapping[str, str], configs: Mapping[str, Mapping[str, Any]]
) -> list[FoundModel]:
    """All models that lie in a folder, by name.

    Args:
        factories: for weights files, by the member's name, what builds the network: module:factory.
        configs: of the factories, likewise.

    Raises:
        SpecError: weights without a factory, or a folder without models.
    """
    found = [*_in(folder, factories, configs)]
    names = [model.name for model in found]
    for name in {*factories, *configs} - set(names):
        raise SpecError(f"members.{name}", f"no file of {folder} is called so", f"it has {', '.join(names) or 'none'}")
    if not found:
        kinds = ", ".join(dict.fromkeys(suffix for known in FORMATS for suffix in known.suffixes))
        fix = f"give a folder of {kinds} or {WEIGHTS_SUFFIX} files"
        raise SpecError(str(folder), "holds no model", "; ".join([*pickles(folder), fix]))
    return found


def pickles(folder: Path) -> list[str]:
    """Files that may hold a model, and are not read, each with what makes one of it that is."""
    return [
        f"{path.name} is a pickle, whose code would run: if you trust it, quorate convert {path} --to skops"
        for path in sorted(folder.iterdir())
        if path.suffix in _PICKLES and not path.with_suffix(SKOPS.suffixes[0]).exists()
    ]


def _in(folder: Path, factories: Mapping[str, str], configs: Mapping[str, Mapping[str, Any]]) -> Iterator[FoundModel]:
    paths = [path for path in sorted(folder.iterdir()) if _model_of(path) is not None or _is_weights(path)]
    stems = [path.stem for path in paths]
    for path in paths:
        called = path.stem if stems.count(path.stem) == 1 else path.name
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", called).strip("_-")[:63]
        model = _model_of(path)
        if model is not None:
            yield FoundModel(name, model, config=configs.get(name, {}))
        else:
            factory = factories.get(name) or _only_factory(folder, name)
            yield FoundModel(name, factory, path.name, configs.get(name, {}))


def _model_of(path: Path) -> str | None:
    """What a spec would say of a file or folder that is a model by itself."""
    if path.is_dir():
        schemes = {known.scheme for known in FORMATS}
        scheme = next((scheme for file, scheme in _FOLDERS.items() if (path / file).is_file()), "")
        return f"{scheme}:{path.name}" if scheme in schemes - {""} else None
    known = format_of(path.name)
    if known is FACTORY or path.name.startswith("."):
        return None
    if known is TORCHSCRIPT:
        return path.name if _is_torchscript(path) else None
    beginning = _BEGINNINGS.get(path.suffix)
    if beginning is not None:
        with path.open("rb") as file:
            if beginning not in file.read(_LOOKED_AT):
                return None
    return path.name


def _is_weights(path: Path) -> bool:
    return path.is_file() and path.suffix in (WEIGHTS_SUFFIX, *CHECKPOINTS)


def _is_torchscript(path: Path) -> bool:
    """Whether ``torch.jit.save`` has written it, and not ``torch.save``."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _only_factory(folder: Path, name: str) -> str:
    """The one class or function of the folder's Python files that may build the network.

    Raises:
        SpecError: there is none, or more than one.
    """
    found = [
        f"{path.stem}:{made}"
        for path in sorted(folder.glob("*.py"))
        for made, bases in classes_and_functions(path)
        if (any(map(_BASES.search, bases)) if bases is not None else _MAKERS.search(made))
    ]
    if len(found) == 1:
        return found[0]
    what = f"may be built by {', '.join(found)}" if found else "say not what builds the network"
    raise SpecError(f"members.{name}.model", f"its weights {what}", f"say --factory {name}=MODULE:FACTORY")
