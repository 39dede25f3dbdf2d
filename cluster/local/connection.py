"""Connect this process to a cluster: the one that is named, the one it is on already, or the local one."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from quorate.deployments.errors import ClusterError
from quorate.fusion.extras import require

if TYPE_CHECKING:
    from quorate.cluster.local.state import LocalCluster


def is_jobs_address(address: str | None) -> TypeGuard[str]:
    """Whether an address is that of a cluster's Jobs API."""
    return address is not None and address.startswith(("http://", "https://"))


def nothing_runs(address: str | None) -> bool:
    """Whether no cluster is named and there is none to look at."""
    require("serve", "a cluster")
    from quorate.cluster.local.state import find

    return address is None and not _joined() and find() is None


@contextlib.contextmanager
def connected(address: str | None, start: bool = False, runtime_env: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Be a driver on a cluster while the context lasts; import Ray only inside, as it reads its token when imported.

    Afterwards Ray's calls start no cluster by themselves in this process: whoever wants one calls ``ray.init``.

    Args:
        address: a Ray address (``host:port``, ``ray://`` or ``auto``); None for the cluster that this process joined by
            ``ray.init``, and stays on, or else the local cluster.
        start: start the local cluster when it does not run.
        runtime_env: Ray's, for all that this process starts on a cluster that is named.

    Raises:
        ClusterError: there is no such cluster, or this process is on another.
        MissingExtraError: Ray is not installed.
    """
    require("serve", "a cluster")
    if is_jobs_address(address):
        what = "commands, and the calls of Python that are called as they are, work through it"
        raise ClusterError(f"{address} is a Jobs address: {what}; this needs a node of the cluster and its address")
    if address is None and _joined():
        yield
        return
    from quorate.cluster.local.ray_token import showing_token
    from quorate.cluster.local.state import find
    from quorate.deployments.control.ray_private import forbid_auto_init, on_loopback

    token = None
    way: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if address is None:
        cluster = _started() if start else find()
        if cluster is None:
            raise ClusterError("no local cluster runs; quorate deploy SPEC starts one, --address A joins another")
        token, address, way = cluster.token, cluster.address, on_loopback()
    with showing_token(token):
        with way:
            ray = _init(address, runtime_env)
        try:
            yield
        finally:
            forbid_auto_init()
            ray.shutdown()


@contextlib.contextmanager
def connected_if_named(address: str | None) -> Iterator[None]:
    """Be a driver on the cluster that is named; without one stay as this process is."""
    with contextlib.nullcontext() if address is None else connected(address):
        yield


def _joined() -> bool:
    """Whether this process is on a cluster already."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def _started() -> LocalCluster:
    from quorate.cluster.local.cluster import start

    return start()


def _init(address: str, runtime_env: Mapping[str, Any] | None) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray import serve  # noqa: F401  (importing it sets its logger up)
    from ray.exceptions import AuthenticationError

    from quorate.cluster.local.ray_token import refused
    from quorate.deployments.control.ray_private import reach_head

    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # under load it warns of what it then retries
    try:
        shown = reach_head(address)
        if not shown.accepted:
            raise refused(address, shown.token)
        if ray.is_initialized():
            raise ClusterError(f"this process is on another Ray cluster than {address}; call ray.shutdown() first")
        ray.init(address=address, runtime_env=runtime_env, log_to_driver=False, configure_logging=False)
    except AuthenticationError:
        raise refused(address, shown=False) from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ClusterError(f"no Ray cluster answers at {address} ({reason}); check --address") from None
    return ray
