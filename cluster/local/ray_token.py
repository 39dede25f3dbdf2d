"""Which token this process shows Ray: one cluster after the other may ask for its own, in one notebook say."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@contextmanager
def showing_token(token: Path | None) -> Iterator[None]:
    """Show the token of this file while the context lasts; without one the environment stays as the user has it."""
    if token is None:
        yield
        return
    before = {name: os.environ.pop(name, None) for name in TOKEN_VARIABLES}
    os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN_PATH"] = "token", str(token)
    _read_again()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        _read_again()


def _read_again() -> None:
    """Ray 2.60 reads the environment when it is imported and keeps the first token it used; make it forget both."""
    if "ray" in sys.modules:
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()
