"""Bytes that came as text, since JSON has none."""

from __future__ import annotations

import base64


def from_base64(content: bytes) -> bytes:
    """The bytes of base64; of anything else, such as a picture, what it is."""
    try:
        return base64.b64decode(content, validate=True)
    except ValueError:
        return content
