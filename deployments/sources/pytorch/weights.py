"""Weights of a module, out of the files that training leaves: safetensors, or a checkpoint that needs no pickle."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.spec.model_formats import WEIGHTS_SUFFIX, convert_command

# Under what key a checkpoint keeps a module's state, what most write first.
_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "module", "weights")
_MAX_WRAPPERS = 3


class StateError(ValueError):
    """What is in a file is no module's state."""


def load_weights(request: LoadRequest, module: nn.Module, path: Path) -> None:
    """Give a module the weights of a file.

    Raises:
        MemberLoadError: the file cannot be read, or only by running code that is in it, or does not fit.
    """
    state = _read_safetensors(request, path) if path.suffix == WEIGHTS_SUFFIX else _read_checkpoint(request, path)
    try:
        module.load_state_dict(unprefixed(state, module.state_dict().keys()), strict=True)
    except RuntimeError as error:
        found = f"{path.name} does not fit the model: {' '.join(str(error).split())}"
        raise request.error(found, "check config and weights") from None


def state_of(saved: Any) -> dict[str, Tensor]:
    """A module's state, out of what was saved: that, a checkpoint that has it under a key, or a module.

    Raises:
        StateError: there is none, or more than one.
    """
    if isinstance(saved, nn.Module):
        return dict(saved.state_dict())
    if not isinstance(saved, Mapping):
        raise StateError(f"it holds one {type(saved).__name__}")
    inner = {str(key): value for key, value in saved.items() if _is_state(value)}
    named = next((key for key in _KEYS if key in inner), None)
    tensors = {str(name): value for name, value in saved.items() if isinstance(value, Tensor)}
    if named is None and tensors:
        return tensors
    if named is None and len(inner) != 1:
        found = f"the state of several modules: {', '.join(inner)}" if inner else f"no tensor, but {_listed(saved)}"
        raise StateError(f"it holds {found}")
    return state_of(inner[named or next(iter(inner))])


def unprefixed(state: Mapping[str, Tensor], wanted: Collection[str]) -> Mapping[str, Tensor]:
    """The state with the names that a module has, where a wrapper's name stands before each of them.

    DataParallel puts ``module.`` there, Lightning the attribute's name, torch.compile ``_orig_mod.``. What else
    such a wrapper had is left out. Where several fit alike the state stays as it is.
    """
    names = set(wanted)
    if set(state) == names:
        return state
    inner = _inner_states(state, _MAX_WRAPPERS)
    found = [part for part in inner if set(part) == names]
    if not found:  # then the closest tells best what is missing
        most = max((len(names & part.keys()) for part in inner), default=0)
        found = [part for part in inner if len(names & part.keys()) == most > len(names & state.keys())]
    return found[0] if len(found) == 1 else state


def _inner_states(state: Mapping[str, Tensor], depth: int) -> list[dict[str, Tensor]]:
    """What stands under each first part of the names, and under the first parts of those."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        first, dot, rest = name.partition(".")
        if dot:
            parts.setdefault(first, {})[rest] = value
    deeper = [inner for part in parts.values() for inner in (_inner_states(part, depth - 1) if depth > 1 else [])]
    return [*parts.values(), *deeper]


def _read_safetensors(request: LoadRequest, path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: Mapping[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise request.error(f"{path.name} cannot be read: {error}", "save it with safetensors again") from None
    return state


def _read_checkpoint(request: LoadRequest, path: Path) -> Mapping[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a TorchScript archive, which is refused all the same
            saved = torch.load(path, map_location="cpu", weights_only=True)
        return state_of(saved)
    except StateError as error:
        raise request.error(f"{path.name} holds no module's state: {error}", "save module.state_dict()") from None
    except (pickle.UnpicklingError, RuntimeError):
        found = f"{path.name} holds more than tensors, and reading that may run code"
        raise request.error(found, f"convert it, if you trust where it is from: {convert_command(path.name)}") from None
    except Exception as error:  # the reader meets whatever a file may hold
        raise request.error(f"{path.name} cannot be read: {error}", "save module.state_dict() again") from None


def _is_state(value: Any) -> bool:
    if isinstance(value, nn.Module):
        return True
    return isinstance(value, Mapping) and any(isinstance(inner, Tensor) for inner in value.values())


def _listed(saved: Mapping[Any, Any]) -> str:
    return ", ".join(map(str, list(saved)[:10])) or "nothing"
