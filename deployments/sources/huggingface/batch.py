"""What a processor makes of rows, ready for the model."""

# B rows, W words of each

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from quorate.deployments.spec.model_files.huggingface_folder import FolderSettings


@dataclass(frozen=True)
class Batch:
    """Rows that run together.

    Attributes:
        tensors: the model's arguments, (B, ...) each.
        places: (B, W), of a model whose answer has a row for each word: which of its tokens speaks for the word, -1
            where none does.
    """

    tensors: Mapping[str, torch.Tensor]
    places: torch.Tensor | None = None


class Reader(Protocol):
    """Reads rows of one kind; made of a folder and the model in it."""

    def __init__(self, path: Path, model: Any, settings: FolderSettings): ...

    def __call__(self, *arrays: NDArray[Any]) -> list[Batch]:
        """Batches for the rows, in their order.

        Args:
            arrays: the member's inputs, (B, *shape) each.

        Raises:
            BadRowsError: naming the rows that cannot be read.
        """
        ...
