"""Networks that are made of torch's own layers alone: they can do nothing but compute, and nothing looks on.

A module is called through the search for hooks, which takes a small layer longer than its computation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_OF_TORCH = ("torch.nn.modules.", "torch.nn.functional", "torch.nn.parameter", "torch._C")


def code_of_others(network: nn.Module) -> str:
    """Which part of a network runs code that is not torch's; empty for none."""
    for name, part in network.named_modules():
        codes: list[object] = [type(part), *(value for value in vars(part).values() if callable(value))]
        codes += [type(tensor) for tensor in (*part.parameters(recurse=False), *part.buffers(recurse=False))]
        hooked = any(getattr(part, hooks) for hooks in _HOOKS)
        if hooked or "forward" in vars(part) or not all(map(_is_of_torch, codes)):
            return f"{name or 'the model'} ({type(part).__name__})"
    return ""


def without_hooks(network: nn.Module) -> Callable[..., Tensor]:
    """Calls a network that ``code_of_others`` knows nothing of: the same operators on the same parameters."""
    steps = _steps(network)
    if len(steps) == 1:
        return steps[0]

    def run(tensor: Tensor) -> Tensor:
        for step in steps:
            tensor = step(tensor)
        return tensor

    return run


def _steps(network: nn.Module) -> list[Callable[..., Tensor]]:
    """One after another."""
    if type(network) is nn.Sequential and len(network):
        return [step for part in network for step in _steps(part)]
    if type(network) is nn.Linear:
        return [partial(linear, weight=network.weight, bias=network.bias)]
    if type(network) is nn.ReLU and not network.inplace:
        return [torch.relu]
    return [network.forward]


def _is_of_torch(code: object) -> bool:
    return code is Tensor or str(getattr(code, "__module__", "")).startswith(_OF_TORCH)
