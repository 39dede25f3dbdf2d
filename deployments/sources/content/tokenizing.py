"""Tokenizers of transformers, from a folder of their own or of a model."""

# B rows

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

# Beyond that a tokenizer means that nobody has said a length.
_NO_LENGTH = 1 << 20


def padded(tokenizer: Any, length: int | None, *columns: list[str]) -> dict[str, torch.Tensor]:
    """(B, tokens) of what a model reads, as long as the longest row, cut at ``length``."""
    cut = {"truncation": True, "max_length": length} if length else {}
    padding = tokenizer.pad_token is not None
    return dict(tokenizer(*columns, padding=padding, return_tensors="pt", **cut))


def tokenizer_of(path: Path) -> Any:
    """The folder's tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)


def max_length(tokenizer: Any, config: Any) -> int | None:
    """The most tokens that tokenizer and model take; None where neither says."""
    said = (model_max_length(tokenizer), getattr(config, "max_position_embeddings", None))
    return min((length for length in said if length and length > 0), default=None)


def model_max_length(tokenizer: Any) -> int | None:
    """The most tokens of a text, as the tokenizer says; None where it does not."""
    length = int(tokenizer.model_max_length)
    return length if length < _NO_LENGTH else None
