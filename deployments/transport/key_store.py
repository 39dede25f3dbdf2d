"""Where the cluster's keys are kept: Ray's own store, which only processes of the cluster can read."""

from __future__ import annotations

from ray.experimental import internal_kv

from quorate.deployments.transport.keys import ClusterKeys

_KEY, _NAMESPACE = b"data-plane-keys", b"quorate"
_BETWEEN = b"\0"  # PEM is text


def cluster_keys() -> ClusterKeys:
    """The cluster's keys, made by whoever asks first."""
    found: bytes | None = internal_kv._internal_kv_get(_KEY, namespace=_NAMESPACE)
    if found is None:
        made = ClusterKeys.make()
        text = made.certificate + _BETWEEN + made.private_key
        internal_kv._internal_kv_put(_KEY, text, overwrite=False, namespace=_NAMESPACE)
        found = internal_kv._internal_kv_get(_KEY, namespace=_NAMESPACE)
        assert found is not None
    return ClusterKeys(*found.split(_BETWEEN))
