"""Members and fusion as Ray Serve deployments, and the doors clients come in by.

Names load on first use, so that checking a spec pays for neither torch nor Ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Client": "client",
    "Credentials": "credentials",
    "Doors": "doors",
    "EnsembleSpec": "spec",
    "FusionSpec": "spec",
    "MemberSpec": "spec",
    "deploy": "applications",
    "load_model": "models",
    "load_spec": "spec_file",
    "parse_spec": "spec_file",
    "save_spec": "spec_file",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
