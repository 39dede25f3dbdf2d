"""What whoever loads a model is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quorate.deployments.errors import MemberLoadError
from quorate.deployments.sources.model import Model
from quorate.deployments.spec.model_formats import model_path
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

    def model(self, function: Callable[..., Any], tensors: bool, classes: tuple[str, ...] | None = None) -> Model:
        """What is loaded, as a model.

        Args:
            function: called with the member's inputs in their order, (B, *shape) each; gives one row for each, alone
                or among other outputs (see ``outputs.pick``), as numbers or by the names of classes.
            tensors: whether it takes tensors on the device, or arrays.
            classes: what the model itself calls its columns, in their order, where it knows.
        """
        return Model(self.name, self.spec, function, self.device, tensors, classes, self.folder)

    def error(self, found: str, fix: str) -> MemberLoadError:
        return MemberLoadError(self.name, found, fix)
