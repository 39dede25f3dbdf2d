"""One forward pass: rows through the processor and the model, and of its outputs the one that the spec means."""

# B rows, W words, C classes, F features

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from quorate.deployments.sources.huggingface.batch import Batch, Reader


class Forward:
    """A member's function.

    Args:
        output: logits, probabilities, values or features, as the spec has it.
        pooled: whether features are those that the model pools itself.
    """

    def __init__(self, reader: Reader, model: Any, output: str, pooled: bool):
        self._reader, self._model, self._output, self._pooled = reader, model, output, pooled
        self._multilabel = model.config.problem_type == "multi_label_classification"

    def __call__(self, *arrays: NDArray[Any]) -> torch.Tensor:
        """(B, C) logits or probabilities, (B, W, C) of words, or (B, F) features."""
        outputs = [self._run(batch) for batch in self._reader(*arrays)]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _run(self, batch: Batch) -> torch.Tensor:
        tensors = {name: self._moved(tensor) for name, tensor in batch.tensors.items()}
        found = self._model(**tensors)
        if self._output == "features":
            return _features(found, tensors.get("attention_mask"), self._pooled)
        logits: torch.Tensor = found.logits if batch.places is None else _of_words(found.logits, batch.places)
        if self._output != "probabilities":
            return logits
        return logits.float().sigmoid() if self._multilabel else logits.float().softmax(dim=-1)

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        dtype = self._model.dtype if tensor.dtype.is_floating_point else tensor.dtype
        return tensor.to(self._model.device, dtype)


def _of_words(logits: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(B, W, C) of (B, tokens, C): what the token that speaks for each word says; zeros where none does."""
    places = places.to(logits.device)[..., None]
    spoken = logits.gather(1, places.clamp(min=0).expand(-1, -1, logits.shape[-1]))
    return torch.where(places < 0, 0, spoken)


def _features(found: Any, mask: torch.Tensor | None, pooled: bool) -> torch.Tensor:
    """(B, F) what the model has pooled, or the mean of its last layer over what is no padding."""
    vectors: torch.Tensor | None = getattr(found, "pooler_output", None)
    if pooled and vectors is not None:
        return vectors.flatten(1)
    hidden: torch.Tensor = found.last_hidden_state
    if mask is None or mask.shape != hidden.shape[:2]:
        return hidden.mean(dim=1)
    weights = mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)
