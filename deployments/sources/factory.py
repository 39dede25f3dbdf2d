"""Code, ``package.module:name``: a factory, called with the config and given the weights of a file, or a model.

What is named is the model itself where it is an ``nn.Module``, or a function that needs the member's inputs, by their
names, and nothing else.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from quorate.deployments.sources.async_callable import AsyncCalls, is_async
from quorate.deployments.sources.failures import load_error
from quorate.deployments.sources.model import Model
from quorate.deployments.sources.pytorch.weights import load_weights
from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.sources.stages import stages
from quorate.deployments.spec.model_formats import CONFIG_NAMES, factory_of
from quorate.deployments.spec.suggestions import suggest


def load(request: LoadRequest) -> Model:
    """Call the factory, and load its weights where it gives a network."""
    calls = AsyncCalls(request.name)
    spec, built = request.spec, _built(request, calls)
    if isinstance(built, nn.Module):
        request.check_names(built)
        if spec.weights:
            load_weights(request, built, request.folder / spec.weights)
        return request.model(built.to(request.device).eval(), tensors=True)
    if spec.weights:
        found = f"{spec.model} returned {type(built).__name__}, which takes no weights"
        raise request.error(found, "return an nn.Module")
    function = stages(built) or built
    if not callable(function):
        raise request.error(f"{spec.model} returned {built!r:.80}", "return an nn.Module or a callable on arrays")
    request.check_names(function)
    return request.model(calls.blocking(function) if is_async(function) else function, tensors=False)


def search_in(*folders: Path) -> None:
    """Let factories be imported from these folders, after all that is installed."""
    for folder in map(str, (f.resolve() for f in folders)):
        if folder not in sys.path:
            sys.path.append(folder)


def search_only_in(folder: Path, below: Path) -> None:
    """Let factories be imported from a folder, and no more from others below the one that revisions lie in.

    A process that loads members of one revision after another would else import, or have imported, code of an earlier
    one. What that has made goes on with what it has.
    """
    here, others = str(folder.resolve()), f"{below.resolve()}{os.sep}"
    sys.path[:] = [entry for entry in sys.path if not entry.startswith(others)]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if file.startswith(others) and not file.startswith(f"{here}{os.sep}"):
            del sys.modules[name]
    importlib.invalidate_caches()
    search_in(folder)


def _built(request: LoadRequest, calls: AsyncCalls) -> Any:
    """What a factory made, or the model that was named itself."""
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
    if isinstance(found, nn.Module):
        return copy.deepcopy(found) if request.spec.weights else found  # others may have it with other weights
    if _needs(found, request.config) == set(request.spec.model_inputs):
        return partial(found, **request.config)
    try:
        return calls.run(_call(found, request.config)) if is_async(found) else _call(found, request.config)
    except (Exception, SystemExit) as error:
        raise load_error(request.name, f"{model} failed", error, "correct it, or its config") from error


def _needs(function: Any, config: Mapping[str, Any]) -> set[str]:
    """The parameters that a function, which is no class, has to be given beside its settings."""
    if inspect.isclass(function) or not callable(function):
        return set()
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # builtins tell no signature
        return set()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {p.name for p in named if p.default is p.empty} - set(config)


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
