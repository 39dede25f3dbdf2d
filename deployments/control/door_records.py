"""How each ensemble's doors were opened, in Ray's own store: whom a replica that starts later admits.

Only digests of tokens are in it.
"""

from __future__ import annotations

from pydantic import TypeAdapter
from ray.experimental import internal_kv

from quorate.deployments.security.doors import Doors

_NAMESPACE = b"quorate"
_JSON = TypeAdapter(Doors)


def _key(ensemble: str) -> bytes:
    return f"doors/{ensemble}".encode()


def record(ensemble: str, doors: Doors) -> None:
    internal_kv._internal_kv_put(_key(ensemble), _JSON.dump_json(doors), overwrite=True, namespace=_NAMESPACE)


def recorded(ensemble: str) -> Doors:
    """As they were opened last; the default for an ensemble that never was."""
    found = internal_kv._internal_kv_get(_key(ensemble), namespace=_NAMESPACE)
    return _JSON.validate_json(found) if found else Doors()


def forget(ensemble: str) -> None:
    internal_kv._internal_kv_del(_key(ensemble), namespace=_NAMESPACE)
