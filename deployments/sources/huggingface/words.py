"""Rows of words, each answered by the first of its tokens, as taggers are trained."""

# B rows, W words of each

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from quorate.deployments.sources.content.row_errors import BadRowsError, each_row
from quorate.deployments.sources.content.texts import text
from quorate.deployments.sources.content.tokenizing import max_length, tokenizer_of
from quorate.deployments.sources.huggingface.batch import Batch
from quorate.deployments.spec.model_files.huggingface_folder import FolderSettings


class WordReader:
    """Words of a row; those that are empty, as a row is padded with, are not seen by the model."""

    def __init__(self, path: Path, model: Any, settings: FolderSettings):
        self._tokenizer = tokenizer_of(path)
        self._max_length = settings.max_length or max_length(self._tokenizer, model.config)

    def __call__(self, *arrays: NDArray[Any]) -> list[Batch]:
        """One batch of words.

        Args:
            arrays: (B, W) BYTES, UTF-8, and where the member reads it (B, 1) how many of them are the row's.

        Raises:
            BadRowsError: naming the rows that are no UTF-8, or longer than the model reads: none is cut unseen.
        """
        words, *lengths = arrays
        if words.ndim != 2:
            raise ValueError(f"rows of words have shape: [-1], and not {list(words.shape[1:])}")
        rows = each_row(lambda row: [text(word) for word in row], words)
        if lengths:
            counts = lengths[0].reshape(len(words)).tolist()
            rows = [
                [word if at < n else "" for at, word in enumerate(row)] for row, n in zip(rows, counts, strict=True)
            ]
        encoded = self._tokenizer(rows, is_split_into_words=True, padding=True, return_tensors="pt")
        self._check_lengths(encoded)
        return [Batch(dict(encoded), self._places(encoded, words.shape[1]))]

    def _check_lengths(self, encoded: Any) -> None:
        tokens = encoded["attention_mask"].sum(dim=1).tolist()
        limit = self._max_length or max(tokens)
        found = {
            row: f"its words are {count} tokens, and the model reads {limit}; send shorter rows"
            for row, count in enumerate(tokens)
            if count > limit
        }
        if found:
            raise BadRowsError(found)

    @staticmethod
    def _places(encoded: Any, width: int) -> torch.Tensor:
        """(B, W) the first token of each word."""
        places = torch.full((len(encoded["input_ids"]), width), -1)
        for row in range(len(places)):
            of_tokens = encoded.word_ids(row)
            for token in reversed(range(len(of_tokens))):
                if of_tokens[token] is not None:
                    places[row, of_tokens[token]] = token
        return places
