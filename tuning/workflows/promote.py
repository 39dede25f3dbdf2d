"""From a run's folder into the running service: verified before it answers anyone, on a share of requests if wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import load_spec
from quorate.tuning.errors import PromotionError
from quorate.tuning.runs.advice import check_advice, read_advice
from quorate.tuning.runs.probe import load_probe
from quorate.tuning.runs.run_folder import SPEC, other_spec
from quorate.tuning.workflows.promotion import Promotion

if TYPE_CHECKING:
    from quorate.deployments.rollout.rollout import Candidate

CANARY_S = 30.0


def promote(
    run: Path,
    *,
    pick: str | int | None = None,
    anyway: bool = False,
    canary: float | None = None,
    canary_s: float = CANARY_S,
    timeout_s: float = 300.0,
    on_step: Callable[[str], None] | None = None,
) -> Promotion:
    """Publish a run's ensemble into the one of its name that runs on the connected cluster.

    Weights go live without a restart; members that changed start beside the old ones. Before anyone is answered by it,
    every fusion replica answers the run's probe set as the run did; a canary gets a share of the requests first.

    Args:
        run: the run's folder.
        pick: an alternative of a tuned fusion by its name, or the number of a sweep's Pareto set; what the verdict
            recommends, or the best, when None.
        anyway: also what the verdict advises against: an ensemble where one member is enough, anything where nothing
            is worth serving.
        canary: share of the requests, above 0 and below 1; None for none.
        canary_s: how long both are watched.
        timeout_s: how long new members may take to load.
        on_step: told what happens next.

    Raises:
        PromotionError: the run or pick is none, its verdict advises against it, or nothing of its name runs.
        CanaryError: answers differ from the run's, or the canary did worse. The old revision still answers.
        DeployError: a member or a replica could not be brought up. The old revision still answers.
    """
    from quorate.deployments.control.deploy import deploy
    from quorate.deployments.rollout.canary import verify, watch

    say = on_step or (lambda step: None)
    spec, folder, alternative = _read(run, pick)
    loses = check_advice(folder, pick, anyway)
    if loses:
        say(loses)
    probe = load_probe(folder, spec, alternative)
    if canary is not None and not 0 < canary < 1:
        raise PromotionError("canary", f"the share is {canary:g}", "give more than 0 % and less than 100 %")
    live = _live(spec)
    seen: dict[str, Any] = {}

    def check(candidate: Candidate) -> None:
        say("comparing answers with the run's")
        seen["difference"] = verify(candidate, probe.inputs, probe.expected, probe.tolerance)
        if canary is not None:
            say(f"giving it {canary:.0%} of the requests for {canary_s:g} s")
            seen["canary"] = watch(candidate, live["revision"], canary, canary_s)

    say("bringing up members")
    done = deploy(spec, folder, timeout_s=timeout_s, check=check)
    if "difference" not in seen:
        raise PromotionError(str(folder), f"revision {done.revision} is live already", "nothing is left to do")
    return Promotion(
        spec.name, done.revision, live["revision"], done.http, len(probe.expected), seen["difference"],
        seen.get("canary"), loses,
    )  # fmt: skip


def _read(run: Path, pick: str | int | None) -> tuple[EnsembleSpec, Path, str | None]:
    """The spec, its folder, and the name of the alternative it is where it is not the folder's recommended one."""
    name = None if pick is None else str(pick)
    if name is None or name == read_advice(run).get("recommended"):
        folder, file, other = run, SPEC, None
    elif name.isdecimal():
        folder, file, other = run / "pareto" / name, SPEC, None
    else:
        folder, file, other = run, other_spec(name), name
    if Path(file).name != file or not (folder / file).is_file():
        known = [path.name for path in (run / "pareto").glob("*")] if run.is_dir() else []
        known += [path.stem.removeprefix("spec-") for path in run.glob(other_spec("*"))]
        fix = f"picks are {', '.join(sorted(known))}" if known else "give the folder that quorate tune named"
        raise PromotionError(str(folder), f"there is no {file}", fix)
    return load_spec(folder / file), folder, other


def _live(spec: EnsembleSpec) -> dict[str, Any]:
    from quorate.deployments.control.describe import describe_fusion

    found = describe_fusion(spec.name)
    if not found:
        raise PromotionError(spec.name, "no ensemble of this name runs", "quorate deploy it first")
    running = EnsembleSpec.model_validate(found[0]["spec"])
    if running.wiring != spec.wiring:
        fix = "deploy the run's spec: its doors have to restart"
        raise PromotionError(spec.name, "the running ensemble has other inputs, classes or serving", fix)
    return found[0]
