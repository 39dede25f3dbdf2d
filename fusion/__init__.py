"""Fusion rules, pure torch: what turns many members' outputs into one.

Names load on first use, so that checking a spec does not pay for importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Fused": "base",
    "Mean": "linear_pool",
    "QuorateError": "errors",
    "RULES": "catalogue",
    "Rule": "base",
    "WeightedMean": "linear_pool",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
