"""Adapters of PEFT on the model of a folder."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from quorate.deployments.spec.model_files.huggingface_folder import read_json


def adapter_task(path: Path) -> str:
    """What an adapter was trained for, such as SEQ_CLS; empty where it does not say."""
    return str(_config(path).get("task_type") or "")


def trained_modules(path: Path) -> list[str]:
    """Modules that an adapter brings whole, such as the head."""
    return [str(name) for name in _config(path).get("modules_to_save") or ()]


def with_adapter(model: Any, path: Path) -> Any:
    """The model with an adapter."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of what PEFT asks of transformers
        return PeftModel.from_pretrained(model, str(path))


def _config(path: Path) -> dict[str, Any]:
    return read_json(path / "adapter_config.json")
