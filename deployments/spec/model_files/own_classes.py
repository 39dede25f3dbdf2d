"""Class names that models bring along, filled in where a spec names none: ``id2label`` of a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.model_files.huggingface_folder import label_names, read_config
from quorate.deployments.spec.model_formats import HUGGING_FACE, format_of, model_path


def with_own_classes(data: Any, folder: Path) -> Any:
    """A spec's data with the classes of its models: of each member, and, where they agree, of the ensemble.

    Args:
        folder: what paths start from; a model that is not there is left to whoever checks files.

    Raises:
        SpecError: classes of a model that are not the ensemble's, or two models that differ while it has none.
    """
    members = data.get("members") if isinstance(data, dict) else None
    if not isinstance(members, dict):
        return data
    own = {name: found for name, member in members.items() if (found := _names(name, member, folder))}
    if not own:
        return data
    given = data.get("classes")
    if given is not None and not isinstance(given, (list, tuple)):
        return data
    classes = [str(name) for name in given] if given else _common(own)
    for name, found in own.items():
        _check(name, found, classes)
    other = {name: {**members[name], "classes": found} for name, found in own.items() if found != classes}
    return {**data, "classes": list(given or classes), "members": {**members, **other}}


def _names(name: str, member: Any, folder: Path) -> list[str] | None:
    """What the model of a member that says no classes calls its own."""
    if not isinstance(member, Mapping) or member.get("classes") is not None:
        return None
    model, output = member.get("model"), member.get("output", "logits")
    if not isinstance(model, str) or format_of(model) is not HUGGING_FACE or output not in ("logits", "probabilities"):
        return None
    path = folder / (model_path(model) or "")
    if not (path / "config.json").is_file():
        return None
    return label_names(read_config(f"members.{name}.model", path))


def _common(own: Mapping[str, list[str]]) -> list[str]:
    """The classes of the first model, if all have the same."""
    (first, classes), *others = own.items()
    for name, found in others:
        if set(found) != set(classes):
            text = f"the models name different ones: {first} has {', '.join(classes)}; {name} has {', '.join(found)}"
            raise SpecError("classes", text, "name the ensemble's, and each member's in the order of its outputs")
    return classes


def _check(name: str, found: list[str], classes: list[str]) -> None:
    unknown = [label for label in found if label not in classes]
    if unknown:
        text = f"the model calls its outputs {', '.join(found)}, and {unknown[0]} is not among the ensemble's classes"
        raise SpecError(f"members.{name}.classes", text, "name the member's, in this order, as the ensemble does")
