"""What whoever loads a model is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quorate.deployments.errors import MemberLoadError
from quorate.deployments.sources.model import Model
from quorate.deployments.sources.preprocessing import Preprocessing
from quorate.deployments.spec.model_formats import model_path
from quorate.deployments.spec.named_files import with_config_paths
from quorate.deployments.spec.schema import MemberSpec


@dataclass(frozen=True)
class LoadRequest:
    """One member to load; every loader takes this.

    Attributes:
        name: the member's, for errors.
        folder: what relative paths start from.
        device: where the model is to run.
    """

    name: str
    spec: MemberSpec
    folder: Path
    device: torch.device

    @property
    def path(self) -> Path:
        """The file or the folder that ``model`` names."""
        return self.folder / (model_path(self.spec.model) or "")

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
            return Preprocessing(self.spec.inputs, self.spec.preprocess, self.folder)
        except Exception as error:  # tokenizers raise whatever their files make them raise
            found = f"a tokenizer cannot be loaded: {' '.join(f'{type(error).__name__}: {error}'.split())[:300]}"
            raise self.error(found, "save it with save_pretrained, and pip install 'quorate[hf]'") from error

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

    def error(self, found: str, fix: str) -> MemberLoadError:
        return MemberLoadError(self.name, found, fix)
