"""URIs of folders on pyarrow's file systems, whose options follow behind the path: ``s3://bucket/folder?region=...``."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

# What one may say that others are not to know.
_SECRETS = frozenset(
    {"access_key", "secret_key", "session_token", "access_token", "account_key", "client_secret", "sas_token", "sig"}
)


def inside(location: str, name: str) -> str:
    """A folder in another one, which is a path or a URI."""
    path, mark, options = location.partition("?") if "://" in location else (location, "", "")
    return f"{path.rstrip('/')}/{name}{mark}{options}"


def says_secret(uri: str) -> bool:
    """Whether there are credentials in it, which whatever says where something lies would repeat."""
    parts = urlsplit(uri)
    user = parts.netloc.rpartition("@")[0]
    named = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)} & _SECRETS
    return bool(named) or ":" in user or bool(user and parts.scheme == "s3")
