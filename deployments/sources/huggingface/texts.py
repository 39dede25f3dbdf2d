"""Texts, or pairs of them, tokenised by the model's own tokenizer."""

# B rows

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from quorate.deployments.sources.content.texts import texts
from quorate.deployments.sources.content.tokenizing import max_length, padded, tokenizer_of
from quorate.deployments.sources.huggingface.batch import Batch
from quorate.deployments.spec.model_files.huggingface_folder import FolderSettings


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
