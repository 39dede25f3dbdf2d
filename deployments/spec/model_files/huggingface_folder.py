"""What a folder that ``save_pretrained`` wrote says of itself; transformers, which takes seconds, is not imported."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.model_formats import convert_command
from quorate.deployments.spec.suggestions import suggest

_MAX_CONFIG_BYTES = 16 << 20
# What transformers calls classes that nobody has named.
_UNNAMED = re.compile(r"LABEL_\d+")


class FolderSettings(BaseModel):
    """What ``config`` may say of a member ``hf:FOLDER``.

    Attributes:
        adapter: a folder of PEFT, from the spec's; the model's own folder is its base.
        max_length: tokens at which a text is cut; what tokenizer and model say when left out.
        dtype: of the weights while they run; as they were saved when left out.
        image_backend: what makes pictures ready; torchvision where it can be imported, else Pillow, when left out, as
            transformers itself does it. They round differently, so say it where nodes have different packages.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapter: str | None = Field(default=None, min_length=1)
    max_length: int | None = Field(default=None, ge=1)
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    image_backend: Literal["pil", "torchvision"] | None = None


def folder_settings(field: str, config: dict[str, Any]) -> FolderSettings:
    """A member's ``config``.

    Args:
        field: where it stands, for errors.

    Raises:
        SpecError: an unknown key or value.
    """
    try:
        return FolderSettings.model_validate(config)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise SpecError(f"{field}.{key}", "unknown key", suggest(key, FolderSettings.model_fields)) from None
        raise SpecError(f"{field}.{key}", f"found {first['input']!r:.80}", first["msg"].lower()) from None


def check_folder(field: str, path: Path, config: dict[str, Any], folder: Path) -> None:
    """Refuse what cannot be loaded from a folder, or may not be.

    Args:
        field: of the member, for errors.
        path: of the model.
        config: the member's settings.
        folder: what paths in them start from.

    Raises:
        SpecError: no model is there, or its weights are pickles.
    """
    settings = folder_settings(f"{field}.config", config)
    _check_parts(f"{field}.model", path, "config.json", "model*.safetensors")
    read_config(f"{field}.model", path)
    if settings.adapter:
        adapter = folder / settings.adapter
        if not adapter.is_dir():
            raise SpecError(f"{field}.config.adapter", f"there is no folder {adapter}", "paths start from the spec's")
        _check_parts(f"{field}.config.adapter", adapter, "adapter_config.json", "adapter_model.safetensors")


def read_config(field: str, path: Path) -> dict[str, Any]:
    """``config.json`` of a folder.

    Raises:
        SpecError: it is no JSON object.
    """
    try:
        return read_json(path / "config.json")
    except ValueError as error:
        raise SpecError(field, str(error), "save the model again, with save_pretrained") from None


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: it cannot be read, or holds something else.
    """
    try:
        if file.stat().st_size > _MAX_CONFIG_BYTES:
            raise ValueError("it is too long")
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds no object")
    return found


def label_names(config: dict[str, Any]) -> list[str] | None:
    """Names of the classes in the order of a classifier's outputs; None where nobody has named them."""
    labels, architectures = config.get("id2label"), config.get("architectures") or ()
    classifies = any("Classification" in str(name) for name in architectures)
    if not isinstance(labels, dict) or not classifies:
        return None
    try:
        names = [str(labels[key]) for key in sorted(labels, key=int)]
    except ValueError:
        return None
    named = len(set(names)) == len(names) > 1 and not all(map(_UNNAMED.fullmatch, names))
    return names if named else None


def _check_parts(field: str, path: Path, config: str, weights: str) -> None:
    if not (path / config).is_file():
        if config == "config.json" and (path / "adapter_config.json").is_file():
            fix = f"give the folder of its base, and config: {{adapter: {path.name}}}"
            raise SpecError(field, f"{path} is an adapter, no model", fix)
        raise SpecError(field, f"there is no {config} in {path}", "give a folder that save_pretrained wrote")
    if any(path.glob(weights)):
        return
    target = path / weights.replace("*", "")
    for pickled in sorted(path.glob("*model*.bin")):
        found = f"{path} has its weights as a pickle, {pickled.name}, which may run code when it is read"
        fix = f"if you trust where it is from, {convert_command(str(pickled))} --output {target}"
        sharded = "-of-" in pickled.name
        raise SpecError(
            field, found, "load the model where you trust it, and save_pretrained it again" if sharded else fix
        )
    raise SpecError(field, f"there are no weights in {path}", f"put {target.name} there")
