"""What whoever loads a model is asked for."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from quorate.deployments.errors import MemberLoadError
from quorate.deployments.sources.model import Model
from quorate.deployments.sources.named_inputs import unknown_name
from quorate.deployments.sources.preprocessing import Preprocessing
from quorate.deployments.spec.model_formats import model_path
from quorate.deployments.spec.named_files import with_config_paths
from quorate.deployments.spec.schema import MemberSpec

_KINDS: dict[type, str] = {list: "a list", dict: "a mapping", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class LoadRequest:
    """One member to load; every loader takes this.

    Attributes:
        name: the member's, for errors.
        folder: what relative paths start from.
        device: where the model is to run.
        file: what is loaded, where that is not what the spec names but lies in there.
        features: names for the features of a model that has none of its own.
    """

    name: str
    spec: MemberSpec
    folder: Path
    device: torch.device
    file: Path | None = None
    features: tuple[str, ...] | None = None

    @property
    def path(self) -> Path:
        """The file or the folder that ``model`` names."""
        return self.file or self.folder / (model_path(self.spec.model) or "")

    @property
    def config(self) -> dict[str, Any]:
        """The member's settings, paths of what lies in the spec's folder made absolute."""
        return with_config_paths(self.spec.config, self.folder)

    @functools.cached_property
    def preprocessing(self) -> Preprocessing:
        """The steps between the member's inputs and what the model gets.

        Raises:
            MemberLoadError: a tokenizer cannot be loaded.
        """
        try:
            return Preprocessing(self.spec.inputs, self.spec.preprocess, self.folder, self.spec.input_names)
        except Exception as error:  # tokenizers raise whatever their files make them raise
            found = f"a tokenizer cannot be loaded: {' '.join(f'{type(error).__name__}: {error}'.split())[:300]}"
            raise self.error(found, "save it with save_pretrained, and pip install 'quorate[hf]'") from error

    def at(self, file: Path, config: Mapping[str, Any]) -> LoadRequest:
        """The same member, read from a file that what it names has in it, with the settings of this file's format."""
        return replace(self, file=file, spec=self.spec.model_copy(update={"config": dict(config)}))

    def naming(self, features: tuple[str, ...] | None) -> LoadRequest:
        """The same, for a model that may not know how its features are called."""
        return replace(self, features=features)

    @property
    def threads(self) -> int:
        """How many the model may compute with: as many as the member has CPUs."""
        return max(1, int(self.spec.resources.num_cpus))

    def model(
        self,
        function: Callable[..., Any],
        tensors: bool,
        classes: tuple[str, ...] | None = None,
        device: torch.device | None = None,
        batch: int | None = None,
        dtypes: Sequence[torch.dtype] | None = None,
    ) -> Model:
        """What is loaded, as a model.

        Args:
            function: called with what ``preprocessing`` names, (B, *shape) each, by these names where it has such
                parameters, else in their order; gives one row for each, alone or among other outputs (see
                ``outputs.pick``), as numbers or by the names of classes.
            tensors: whether it takes tensors on the device, or arrays.
            classes: what the model itself calls its columns, in their order, where it knows.
            device: where it runs, if not on the device that was asked for.
            dtypes: of its inputs, in their order, where it says so; floating rows are given that, but float64 ones.
            batch: the only number of rows that it takes at once, where it was exported so.
        """
        return Model(
            self.name, self.spec, function, device or self.device, tensors, classes, self.folder, batch, dtypes,
            self.preprocessing,
        )  # fmt: skip

    def check_names(self, function: Callable[..., Any]) -> None:
        """Refuse names that the spec gives the inputs of a model whose parameters are called otherwise.

        Raises:
            MemberLoadError: one is none of them.
        """
        found = unknown_name(function, self.preprocessing.names) if self.spec.input_names else None
        if found is not None:
            raise self.error(found, "give inputs as a list, in its order, or the names that it has")

    def library(self, module: str, extra: str) -> Any:
        """A module of a library that only this kind of model needs.

        Raises:
            MemberLoadError: it is not installed.
        """
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise self.error(f"{error.name} is not installed", f"pip install 'quorate[{extra}]'") from None

    def settings(self, known: Mapping[str, type]) -> dict[str, Any]:
        """The member's config, of these keys and types.

        Raises:
            MemberLoadError: it has another key, or a value of another type.
        """
        for key, value in self.spec.config.items():
            if key not in known:
                raise self.error(f"config.{key} is no setting of it", f"it takes {', '.join(known)}")
            if not isinstance(value, known[key]):
                raise self.error(f"config.{key} is {value!r:.80}", f"give {_KINDS[known[key]]}")
        return dict(self.spec.config)

    def error(self, found: str, fix: str) -> MemberLoadError:
        return MemberLoadError(self.name, found, fix)
