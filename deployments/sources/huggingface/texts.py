"""Texts, or pairs of them, tokenised by the model's own tokenizer."""

# B rows

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from quorate.deployments.sources.huggingface.batch import Batch
from quorate.deployments.sources.texts import texts
from quorate.deployments.spec.huggingface_folder import FolderSettings

# Beyond that a tokenizer means that nobody has said a length.
_NO_LENGTH = 1 << 20


class TextReader:
    """One text a row, cut where the model ends; of two inputs the pair, as models of inference read it."""

    def __init__(self, path: Path, model: Any, settings: FolderSettings):
        self._tokenizer = tokenizer_of(path)
        self._max_length = settings.max_length or max_length(self._tokenizer, model.config)

    def __call__(self, *arrays: NDArray[Any]) -> list[Batch]:
        """Batches of texts.

        Args:
            arrays: (B,) or (B, 1) BYTES, UTF-8.
        """
        if len(arrays) > 2:
            raise ValueError(f"{len(arrays)} inputs, but a text model reads one text, or two")
        columns = [texts(array) for array in arrays]
        if self._tokenizer.pad_token is None:  # models without one run one row at a time
            return [self._encode(*([text] for text in row)) for row in zip(*columns, strict=True)]
        return [self._encode(*columns)]

    def _encode(self, *columns: list[str]) -> Batch:
        return Batch(padded(self._tokenizer, self._max_length, *columns))


def padded(tokenizer: Any, length: int | None, *columns: list[str]) -> dict[str, torch.Tensor]:
    """(B, tokens) of what a model reads, as long as the longest row, cut at ``length``."""
    cut = {"truncation": True, "max_length": length} if length else {}
    padding = tokenizer.pad_token is not None
    return dict(tokenizer(*columns, padding=padding, return_tensors="pt", **cut))


def tokenizer_of(path: Path) -> Any:
    """The folder's tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path, local_files_only=True)


def max_length(tokenizer: Any, config: Any) -> int | None:
    """The most tokens that tokenizer and model take; None where neither says."""
    said = (model_max_length(tokenizer), getattr(config, "max_position_embeddings", None))
    return min((length for length in said if length and length > 0), default=None)


def model_max_length(tokenizer: Any) -> int | None:
    """The most tokens of a text, as the tokenizer says; None where it does not."""
    length = int(tokenizer.model_max_length)
    return length if length < _NO_LENGTH else None
