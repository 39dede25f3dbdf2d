"""What a word that is not known was probably meant to be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel


def suggest(word: str, known: Iterable[str]) -> str:
    """The known word that is closest, or all that there are."""
    known = sorted(known)
    close = get_close_matches(word, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"choose from {', '.join(known)}"


def suggest_key(model: type[BaseModel], location: Sequence[Any]) -> str:
    """Which known key the unknown last part of ``location`` was probably meant to be."""
    known = _known_keys(model, location[:-1])
    close = get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"remove it; known here: {', '.join(known)}"


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
