"""Make what a run found the live revision of the running ensemble of its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorate.cluster.local.connection import connected, is_jobs_address
from quorate.fusion.extras import require

if TYPE_CHECKING:
    from quorate.tuning.workflows.promote import Pick
    from quorate.tuning.workflows.promotion import Promotion


def promote(
    run: str | Path,
    *,
    pick: Pick = None,
    anyway: bool = False,
    canary: float | None = None,
    canary_s: float = 30.0,
    timeout_s: float = 300.0,
    address: str | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Promotion:
    """Publish a run's ensemble, once every fusion replica answers the run's probe rows as the run did.

    Args:
        run: the run's folder.
        pick: an alternative of a tuned fusion by its name, or the number of a sweep's Pareto set; what is recommended,
            or the best, when None. Of several outputs ``mood=stacking,topic=uniform``, or a mapping; outputs that it
            leaves out stay as recommended.
        anyway: also what the run's verdict advises against.
        canary: share of the requests that it gets first, above 0 and below 1; None for none.
        canary_s: how long the canary is watched.
        timeout_s: how long new members may take to load.
        address: of the Ray cluster; the local one when None.
        on_step: told what happens next.

    Raises:
        PromotionError: the run or pick is none, its verdict advises against it, or nothing of its name runs.
        CanaryError: answers differ from the run's, or the canary did worse. The old revision still answers.
        DeployError: a member or a replica could not be brought up. The old revision still answers.
    """
    if is_jobs_address(address):
        from quorate.cluster.jobs.call import call_in_job
        from quorate.cluster.jobs.parcel import folder_parcel

        asked = {"pick": pick, "anyway": anyway, "canary": canary, "canary_s": canary_s, "timeout_s": timeout_s}
        return _from_dict(call_in_job(address, "promote", asked, folder_parcel(Path(run)), on_step))
    require("tune", "promote")
    with connected(address):
        from quorate.tuning.workflows import promote as workflow

        return workflow.promote(
            Path(run), pick=pick, anyway=anyway, canary=canary, canary_s=canary_s, timeout_s=timeout_s, on_step=on_step
        )


def _from_dict(told: dict[str, Any]) -> Promotion:
    """What ``to_dict`` gave."""
    from quorate.deployments.rollout.canary_report import CanaryReport
    from quorate.tuning.workflows.promotion import Promotion

    canary = told["canary"] and CanaryReport(**told["canary"])
    return Promotion(**(told | {"canary": canary}))
