"""The token that a cluster of Ray asks for, found where Ray's own clients find it; Ray need not be installed."""

from __future__ import annotations

import os
from pathlib import Path

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
