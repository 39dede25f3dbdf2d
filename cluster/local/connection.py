"""Connect this process to a cluster: the one that is named, or the local one."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

from quorate.cluster.local import cluster as local
from quorate.deployments.errors import ClusterError


@contextlib.contextmanager
def connected(address: str | None, start: bool = False) -> Iterator[None]:
    """Be a driver on a cluster while the context lasts; import Ray only inside, as it reads its token when imported.

    Args:
        address: a Ray address (``host:port``, ``ray://`` or ``auto``); None for the local cluster.
        start: start the local cluster when it does not run.

    Raises:
        ClusterError: there is no such cluster.
    """
    if address is None:
        cluster = local.start() if start else local.find()
        if cluster is None:
            raise ClusterError("no local cluster runs; quorate deploy SPEC starts one, --address A joins another")
        cluster.admit()
        address = cluster.address
    ray = _init(address)
    try:
        yield
    finally:
        ray.shutdown()


def _init(address: str):  # type: ignore[no-untyped-def]  # Ray is imported when it is needed, not for --help
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray import serve  # noqa: F401  (importing it sets its logger up)

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ClusterError(f"no Ray cluster answers at {address} ({reason}); check --address") from None
    return ray
