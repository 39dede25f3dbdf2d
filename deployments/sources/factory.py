"""Factories, ``package.module:factory``: called with the config, given the weights of a file."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from quorate.deployments.sources.failures import load_error
from quorate.deployments.sources.model import Model
from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.sources.weights import load_weights
from quorate.deployments.spec.model_formats import CONFIG_NAMES, factory_of
from quorate.deployments.spec.suggestions import suggest


def load(request: LoadRequest) -> Model:
    """Call the factory, and load its weights where it gives a network."""
    spec, built = request.spec, _call_factory(request)
    if isinstance(built, nn.Module):
        if spec.weights:
            load_weights(request, built, request.folder / spec.weights)
        return request.model(built.to(request.device).eval(), tensors=True)
    if spec.weights:
        found = f"{spec.model} returned {type(built).__name__}, which takes no weights"
        raise request.error(found, "return an nn.Module")
    if not callable(built):
        raise request.error(f"{spec.model} returned {built!r:.80}", "return an nn.Module or a callable on arrays")
    return request.model(built, tensors=False)


def search_in(*folders: Path) -> None:
    """Let factories be imported from these folders, after all that is installed."""
    for folder in map(str, (f.resolve() for f in folders)):
        if folder not in sys.path:
            sys.path.append(folder)


def _call_factory(request: LoadRequest) -> Any:
    model = request.spec.model
    module, attribute = factory_of(model)
    search_in(request.folder, Path.cwd())
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise load_error(request.name, f"importing {module} failed", error, "correct it") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [name for name in dir(found) if not name.startswith("_")]
            raise request.error(f"{module} has no '{part}'", suggest(part, known))
        found = getattr(found, part)
    try:
        return _call(found, request.config)
    except (Exception, SystemExit) as error:
        raise load_error(request.name, f"{model} failed", error, "correct it, or its config") from error


def _call(factory: Callable[..., Any], config: Mapping[str, Any]) -> Any:
    """Call with the config as keyword arguments, or, where the one parameter is a config, with the whole dict."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except ValueError:  # builtins tell no signature
        parameters = []
    takes_dict = len(parameters) == 1 and parameters[0].name in CONFIG_NAMES
    if takes_dict and parameters[0].kind != inspect.Parameter.VAR_KEYWORD and parameters[0].name not in config:
        return factory(dict(config))
    return factory(**config)
