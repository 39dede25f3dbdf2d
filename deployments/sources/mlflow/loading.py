"""MLflow's folders, ``mlflow:FOLDER``: each flavour is loaded by the source of its own format, where it has one."""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from quorate.deployments.errors import MemberLoadError
from quorate.deployments.sources import onnx
from quorate.deployments.sources.mlflow.signature import Signature, read_signature
from quorate.deployments.sources.model import Model
from quorate.deployments.sources.pytorch import torch_export
from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.sources.tables import catboost, lightgbm, sklearn, xgboost
from quorate.deployments.sources.tables.outputs import check_classifies

Array = NDArray[Any]
_log = logging.getLogger(__name__)
_SETTINGS = {"allow_pickle": bool, "trusted": list, "missing": str}
# A flavour's file, by what it says of it: the loader that reads such a file, and the setting that goes on to it.
_BY_SUFFIX: dict[str, tuple[Callable[[LoadRequest], Model], str]] = {
    ".skops": (sklearn.load, "trusted"),
    ".ubj": (xgboost.load, ""),
    ".json": (xgboost.load, ""),
    ".xgb": (xgboost.load, ""),
    ".lgb": (lightgbm.load, ""),
    ".cb": (catboost.load, "missing"),
    ".onnx": (onnx.load, ""),
    ".pt2": (torch_export.load, ""),
}
# Flavours in the order of preference, each with the key of its library's version and what is called so here.
_FLAVORS = {
    "sklearn": ("sklearn_version", "sklearn"),
    "xgboost": ("xgb_version", "xgboost"),
    "lightgbm": ("lgb_version", "lightgbm"),
    "catboost": ("catboost_version", "catboost"),
    "onnx": ("", ""),
    "pytorch": ("pytorch_version", "torch"),
}


def load(request: LoadRequest) -> Model:
    """Load a folder that MLflow saved.

    ``config: {allow_pickle: true}`` allows flavours that only a pickle holds, which runs code of whoever wrote it;
    ``trusted`` and ``missing`` are those of scikit-learn's and CatBoost's own files.
    """
    settings = request.settings(_SETTINGS)
    flavors, signature = _description(request)
    signature.check(request)
    flavor = next((name for name in _FLAVORS if name in flavors), "python_function")
    request = request.naming(signature.names)
    try:
        model = _loaded(request, flavor, flavors.get(flavor) or {}, settings, signature)
    except MemberLoadError as error:
        saved = _saved_with(flavor, flavors.get(flavor) or {})
        raise request.error(f"{error.found}{saved}", error.fix) from error
    model.checked_by(signature.check_types)
    return model


def _loaded(
    request: LoadRequest, flavor: str, found: Mapping[str, Any], settings: Mapping[str, Any], signature: Signature
) -> Model:
    file = _file(request, flavor, found)
    if file is not None and file.suffix in _BY_SUFFIX:
        loader, setting = _BY_SUFFIX[file.suffix]
        return loader(request.at(file, {setting: settings[setting]} if setting in settings else {}))
    if not settings.get("allow_pickle"):
        what = f"its {flavor} flavour is a pickle, which runs the code of whoever wrote it"
        raise request.error(
            what, "save it in a format without, or, if you trust it, write config: {allow_pickle: true}"
        )
    _log.warning("members.%s: %s is read from a pickle, as config.allow_pickle says", request.name, request.path)
    if flavor == "python_function" or file is None:
        return _function(request, signature)
    return _unpickled(request, flavor, file)


def _description(request: LoadRequest) -> tuple[dict[str, Any], Signature]:
    """The flavours, and the signature."""
    try:
        data = yaml.safe_load((request.path / "MLmodel").read_text(encoding="utf-8"))
        return dict(data["flavors"]), read_signature(data.get("signature"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        found = f"{request.path.name} has no MLmodel that can be read: {type(error).__name__}: {str(error)[:200]}"
        raise request.error(found, "give the folder that save_model or log_model wrote") from None


def _file(request: LoadRequest, flavor: str, found: Mapping[str, Any]) -> Path | None:
    """The file that the flavour names; of PyTorch the one in the folder that it names."""
    name = found.get("data") or found.get("pickled_model") or found.get("model_data")
    if flavor == "python_function" or not isinstance(name, str):
        return None
    file = request.path / name
    if flavor == "pytorch":
        file = next((file / f for f in ("model.pt2", "model.pth") if (file / f).exists()), file)
    if not file.resolve().is_relative_to(request.path.resolve()):
        raise request.error(f"its {flavor} flavour names {name}, outside of it", "save the model again")
    return file


def _unpickled(request: LoadRequest, flavor: str, file: Path) -> Model:
    try:
        if flavor == "pytorch":
            module = torch.load(file, map_location=request.device, weights_only=False)
            return request.model(module.eval(), tensors=True)
        with file.open("rb") as opened:
            estimator = pickle.load(opened)
    except Exception as error:  # what a pickle holds may raise anything
        found = f"{file.name} cannot be read: {type(error).__name__}: {str(error)[:200]}"
        raise request.error(found, "install what it was saved with") from None
    return sklearn.estimator_model(request, estimator)


def _function(request: LoadRequest, signature: Signature) -> Model:
    """What only MLflow itself can load and call."""
    pyfunc = request.library("mlflow.pyfunc", "mlflow")
    try:
        loaded = pyfunc.load_model(str(request.path))
    except Exception as error:  # what a pickle holds may raise anything
        found = f"MLflow cannot load it: {type(error).__name__}: {str(error)[:200]}"
        raise request.error(found, "install what it was saved with") from None
    check_classifies(request, request.spec.output == "probabilities", "a python_function")
    frame = signature.frames(request)
    return request.model(lambda *arrays: _numbers(loaded.predict(frame(arrays))), tensors=False)


def _numbers(found: Any) -> Array:
    array = np.asarray(found)
    if array.dtype == object:
        array = array.astype(np.float64)
    return array


def _saved_with(flavor: str, found: Mapping[str, Any]) -> str:
    """What it was saved with, where that is another version than is here."""
    key, module = _FLAVORS.get(flavor, ("", ""))
    here = getattr(sys.modules.get(module), "__version__", None)
    saved = found.get(key)
    known = here is not None and saved is not None and str(saved) != here
    return f" (it was saved with {module} {saved}, and here is {here})" if known else ""
