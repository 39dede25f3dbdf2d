"""Which token this process shows Ray: one cluster after the other may ask for its own, in one notebook say.

Of a cluster that others have started it is found where Ray's own clients find it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quorate.deployments.errors import ClusterError

TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
WHERE = "RAY_AUTH_TOKEN, the file of RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token"


def ray_token() -> str | None:
    """The token; None where there is none, or RAY_AUTH_MODE says to show none."""
    if os.environ.get("RAY_AUTH_MODE", "token") != "token":
        return None
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def refused(address: str, shown: bool) -> ClusterError:
    """What is said where a cluster wants another token than it was shown, or any."""
    if shown:
        return ClusterError(f"{address} asks for a token, and the one that was shown is not its own; correct {WHERE}")
    fix = f"put it into {WHERE}, and set RAY_AUTH_MODE=token"
    return ClusterError(f"{address} asks for a token, and none was shown; {fix}")


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
