"""How many replicas a member needs, from how busy its inference threads really are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

# A device busier than this queues noticeably (M/D/1: waiting grows with load / (1 - load)).
TARGET_BUSY = 0.7


def desired_replicas(busy_shares: list[float], queued_batches: list[float], low: int, high: int) -> int:
    """Replicas that would each be busy for ``TARGET_BUSY`` of the time with the same work.

    Args:
        busy_shares: per running replica, the share of recent time spent in forward passes, 0 to 1.
        queued_batches: likewise, how many full batches wait. A share cannot pass 1 however much is wanted: a replica
            with work waiting counts up to twice.
        low: fewest replicas.
        high: most replicas.
    """
    wanted = sum(busy_shares) + sum(min(batches, 1.0) for batches in queued_batches)
    return min(max(math.ceil(wanted / TARGET_BUSY), low), high)


def scale_by_load(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """Serve's autoscaling policy; reads what ``record_autoscaling_stats`` reports."""
    low, high = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
    metrics = context.aggregated_metrics or {}
    shares, queued = metrics.get("busy_share"), metrics.get("queued_batches", {})
    if not shares:
        return min(max(context.target_num_replicas, low), high), {}
    return desired_replicas(list(shares.values()), list(queued.values()), low, high), {}
