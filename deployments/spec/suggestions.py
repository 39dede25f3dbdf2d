"""What a word that is not known was probably meant to be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

# What the same thing is called elsewhere: in NumPy, torch and pandas, in scikit-learn, and in speech.
_ELSEWHERE = {
    "float": "FP32", "float32": "FP32", "single": "FP32", "double": "FP64", "float64": "FP64", "half": "FP16",
    "float16": "FP16", "bfloat16": "BF16", "int": "INT64", "integer": "INT64", "long": "INT64", "bool": "BOOL",
    "boolean": "BOOL", "byte": "UINT8", "str": "BYTES", "string": "BYTES", "text": "BYTES", "object": "BYTES",
    "utf8": "BYTES", "bytes": "BYTES", "category": "BYTES",
    "average": "mean", "avg": "mean", "weighted_average": "weighted_mean", "blend": "weighted_mean",
    "voting": "majority_vote", "vote": "majority_vote", "hard": "majority_vote", "majority": "majority_vote",
    "soft": "soft_vote", "max": "maximum", "min": "minimum", "stack": "stacking", "stacked": "stacking",
    "scores": "logits", "proba": "probabilities", "probs": "probabilities", "softmax": "probabilities",
    "embedding": "features", "embeddings": "features", "value": "values", "numbers": "values",
    "regressor": "regression", "classifier": "classification", "multi-label": "multilabel",
    "labels": "classes", "models": "members", "dtype": "datatype", "type": "datatype", "path": "model",
    "file": "model", "params": "config", "kwargs": "config", "checkpoint": "weights", "batch_size": "max_batch_size",
    "gpus": "num_gpus", "cpus": "num_cpus", "timeout": "deadline_s", "method": "rule", "strategy": "rule",
}  # fmt: skip


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant: what it is called elsewhere, or almost the same letters."""
    known = sorted(known)
    meant = _ELSEWHERE.get(word.lower(), word.upper())  # int32 is INT32
    if meant in known:
        return meant
    return next(iter(get_close_matches(word, known, n=1)), None)


def suggest(word: str, known: Iterable[str]) -> str:
    """The known word that is closest, or all that there are."""
    known = sorted(known)
    close = closest(word, known)
    return f"did you mean '{close}'?" if close else f"choose from {', '.join(known)}"


def suggest_key(model: type[BaseModel], location: Sequence[Any]) -> str:
    """Which known key the unknown last part of ``location`` was probably meant to be."""
    known = _known_keys(model, location[:-1])
    close = closest(str(location[-1]), known)
    return f"did you mean '{close}'?" if close else f"remove it; known here: {', '.join(known)}"


def _known_keys(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """Walk the fields by name; a part that is no field is a key of a mapping and stays in the same model."""
    for part in path:
        field = model.model_fields.get(part)
        if field is not None:
            model = _model_in(field.annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if found := _model_in(inner):
            return found
    return None
