"""Fusion rules, pure torch: what turns many members' outputs into one.

Names load on first use, so that checking a spec does not pay for importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Fused": "base",
    "GreedySoup": "soups",
    "Mean": "linear_pool",
    "QuorateError": "errors",
    "RULES": "catalogue",
    "Rule": "base",
    "WeightedMean": "linear_pool",
    "check_members": "checkpoints",
    "dare": "task_vectors",
    "greedy_soup": "soups",
    "reestimate_batchnorm": "batchnorm",
    "slerp": "interpolation",
    "task_arithmetic": "task_vectors",
    "ties": "task_vectors",
    "uniform_soup": "soups",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
