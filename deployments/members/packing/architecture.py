"""Whether two networks are of one architecture: the same but for the numbers in their parameters and buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

# What every module has, and what is compared as parameters, buffers and modules.
_OWN = frozenset(nn.Module().__dict__)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def why_not_stackable(network: nn.Module | None) -> str:
    """What keeps a network from being one of a stack, whatever the others are; empty for nothing."""
    if network is None:
        return "it is no torch module"
    if isinstance(network, torch.jit.ScriptModule):
        return "it is a TorchScript program"
    if any(isinstance(part, torch.fx.GraphModule) for part in network.modules()):
        return "it is an exported program"
    if any(getattr(part, hooks) for part in network.modules() for hooks in _HOOKS):
        return "it has hooks"
    return ""


def difference(one: nn.Module, other: nn.Module) -> str:
    """The first thing in which two networks differ beside their numbers; empty where they are of one architecture.

    Attributes of modules count too: an epsilon or a rate that differs is another function of the same parameters.
    """
    ours, theirs = dict(one.named_modules()), dict(other.named_modules())
    if ours.keys() != theirs.keys():
        return f"one has {min(ours.keys() ^ theirs.keys())} and the other has not"
    for name, module in ours.items():
        found = _module_difference(module, theirs[name])
        if found:
            return f"{name}: {found}" if name else found
    return ""


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each tensor once."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _module_difference(one: nn.Module, other: nn.Module) -> str:
    if type(one) is not type(other):
        return f"{type(one).__name__} and {type(other).__name__}"
    ours, theirs = _attributes(one), _attributes(other)
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs or not _same(ours[name], theirs[name]):
            return f"{name} differs"
    return _tensor_difference(one, other)


def _tensor_difference(one: nn.Module, other: nn.Module) -> str:
    ours, theirs = _described(one), _described(other)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            return f"{name} is {ours.get(name, 'missing')} and {theirs.get(name, 'missing')}"
    return ""


def _described(module: nn.Module) -> dict[str, str]:
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return {name: f"{list(tensor.shape)} {tensor.dtype} on {tensor.device}" for name, tensor in tensors}


def _attributes(module: nn.Module) -> dict[str, Any]:
    own = {name: value for name, value in vars(module).items() if name not in _OWN}
    if isinstance(module, nn.RNNBase):  # its parameters once more
        own = {name: value for name, value in own.items() if not name.startswith("_flat_weight")}
    return own | {"training": module.training}


def _same(one: Any, other: Any) -> bool:
    """Whether two attributes are; of what cannot be compared only what is one object is the same."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, nn.Module):  # held outside the tree of modules: its numbers are in no state
        return False
    try:
        return bool(one == other)
    except Exception:  # arrays, or a model's own class: any answer at all
        return False
