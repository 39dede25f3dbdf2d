"""Members and fusion as Ray Serve deployments, and the doors clients come in by.

Names load on first use, so that checking a spec pays for neither torch nor Ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Client": "client.client",
    "Credentials": "security.credentials",
    "Doors": "security.doors",
    "EnsembleSpec": "spec.ensemble",
    "FusionSpec": "spec.schema",
    "MemberSpec": "spec.schema",
    "deploy": "control.deploy",
    "load_model": "members.loading",
    "load_spec": "spec.files",
    "parse_spec": "spec.files",
    "save_spec": "spec.files",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
