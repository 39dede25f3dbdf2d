"""Loads a member's model: each format of ``spec.model_formats`` has a file here, imported when a member needs it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import torch

from quorate.deployments.sources.failures import load_error
from quorate.deployments.sources.model import Model
from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.spec.digests import file_digest
from quorate.deployments.spec.model_formats import (
    AUTOGLUON,
    CATBOOST,
    FACTORY,
    HUGGING_FACE,
    LIGHTGBM,
    MLFLOW,
    ONNX,
    REMOTE,
    SKOPS,
    TIMM,
    TORCH_EXPORT,
    TORCHSCRIPT,
    TORCHVISION,
    XGBOOST,
    checkpoint_of,
    format_of,
)
from quorate.deployments.spec.schema import MemberSpec
from quorate.fusion.errors import QuorateError

# By the format's name the module whose ``load`` takes a LoadRequest and gives a Model.
LOADERS = {
    FACTORY.name: "factory",
    HUGGING_FACE.name: "huggingface.loading",
    TIMM.name: "vision.timm",
    TORCHVISION.name: "vision.torchvision",
    TORCH_EXPORT.name: "pytorch.torch_export",
    ONNX.name: "onnx",
    TORCHSCRIPT.name: "pytorch.torchscript",
    SKOPS.name: "tables.sklearn",
    XGBOOST.name: "tables.xgboost",
    LIGHTGBM.name: "tables.lightgbm",
    CATBOOST.name: "tables.catboost",
    AUTOGLUON.name: "tables.autogluon",
    MLFLOW.name: "mlflow.loading",
    REMOTE.name: "remote.loading",
}


def load_model(name: str, spec: MemberSpec, folder: Path, device: torch.device | None = None) -> Model:
    """Load a member's model and weights.

    Args:
        name: the member's name, for errors.
        spec: the member.
        folder: what relative paths start from; factories are also looked for in it and in the current folder.
        device: where it runs; the GPU this process was given, else the CPU.

    Raises:
        MemberLoadError: the model or its weights cannot be loaded.
    """
    request = LoadRequest(name, spec, folder, device or torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    _check_digest(request)
    if spec.python is not None:
        from quorate.deployments.sources.interpreter.loading import load

        return load(request, device)
    try:
        return loader(format_of(spec.model).name)(request)
    except QuorateError:
        raise
    except Exception as error:  # a model's own code runs, or a library's that is told nothing of our errors
        raise load_error(name, f"loading {spec.model} failed", error, "correct the member, or its files") from error


def loader(name: str) -> Callable[[LoadRequest], Model]:
    """What loads the models of a format."""
    module = importlib.import_module(f"quorate.deployments.sources.{LOADERS[name]}")
    load: Callable[[LoadRequest], Model] = module.load
    return load


def _check_digest(request: LoadRequest) -> None:
    wanted, checkpoint = request.spec.digest, checkpoint_of(request.spec)
    if wanted is None or checkpoint is None:
        return
    path = request.folder / checkpoint
    found = file_digest(path) if path.exists() else "no file"
    if found != wanted:
        raise request.error(f"{path.name} should have {wanted} but has {found}", "restore the file")
