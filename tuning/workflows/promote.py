"""From a run's folder into the running service: verified before it answers anyone, on a share of requests if wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import load_spec
from quorate.tuning.alternatives.unfitted import INCUMBENT
from quorate.tuning.errors import PromotionError
from quorate.tuning.runs.advice import check_advice, read_advice
from quorate.tuning.runs.one_output import with_fusions_of
from quorate.tuning.runs.probe import load_probe
from quorate.tuning.runs.run_folder import SPEC, other_spec
from quorate.tuning.workflows.promotion import Promotion

if TYPE_CHECKING:
    from quorate.deployments.rollout.rollout import Candidate

CANARY_S = 30.0
Pick = str | int | Mapping[str, str] | None


def promote(
    run: Path,
    *,
    pick: Pick = None,
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
            recommends, or the best, when None. Of several outputs a mapping, or ``mood=stacking,topic=uniform``.
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

    say, pick = on_step or (lambda step: None), _by_output(run, pick)
    spec, folder, alternative = _read(run, pick)
    loses = check_advice(folder, _others(pick), anyway)
    if loses:
        say(loses)
    probe = load_probe(folder, spec, alternative)
    if canary is not None and not 0 < canary < 1:
        raise PromotionError("canary", f"the share is {canary:g}", "give more than 0 % and less than 100 %")
    live = _live(spec)
    seen: dict[str, Any] = {}

    def check(candidate: Candidate) -> None:
        say("comparing answers with the run's")
        seen["difference"] = verify(candidate, probe.inputs, probe.answers, probe.tolerance)
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


def _read(run: Path, pick: Pick) -> tuple[EnsembleSpec, Path, str | Mapping[str, str] | None]:
    """The spec, its folder, and the name of the alternative it is where it is not the folder's recommended one."""
    name = None if pick is None else str(pick)
    if isinstance(pick, Mapping):
        return _of_outputs(run, pick), run, pick
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


def _others(pick: Pick) -> Pick:
    """Without the outputs that are to stay as they were, on which there is no advice."""
    if not isinstance(pick, Mapping):
        return pick
    return {output: name for output, name in pick.items() if name != INCUMBENT}


def _by_output(run: Path, pick: Pick) -> Pick:
    """Of a run of several outputs the picks by output: of ``mood=stacking,topic=tuned`` as of a mapping.

    Raises:
        PromotionError: one names no output, or no alternative of it.
    """
    outputs = read_advice(run).get("outputs")
    if not outputs or pick is None:
        return pick
    if pick == INCUMBENT:
        return dict.fromkeys(outputs, INCUMBENT)
    pairs = pick.items() if isinstance(pick, Mapping) else [part.partition("=")[::2] for part in str(pick).split(",")]
    picks = {str(output).strip(): str(name).strip() for output, name in pairs}
    for output, name in picks.items():
        known = _alternatives(run, output, outputs.get(output))
        if name not in known:
            fix = f"write {next(iter(outputs))}=NAME; outputs are {', '.join(outputs)}"
            fix = f"picks of {output} are {', '.join(known)}" if known else fix
            raise PromotionError("pick", f"'{output}={name}' is no alternative of an output", fix)
    return picks


def _alternatives(run: Path, output: str, report: Mapping[str, Any] | None) -> list[str]:
    """What can be picked of one output: all that has a spec, without floors."""
    if report is None:
        return []
    named = [name for name in report["alternatives"] if (run / other_spec(f"{output}={name}")).is_file()]
    return list(dict.fromkeys([*named, report["recommended"], INCUMBENT]))


def _of_outputs(run: Path, picks: Mapping[str, str]) -> EnsembleSpec:
    """The run's ensemble with other alternatives for some outputs."""
    if not (run / other_spec(INCUMBENT)).is_file():
        fix = "leave pick out, or tune the run's spec: that keeps them"
        raise PromotionError(str(run), "it keeps no alternatives by output", fix)
    given, recommended = load_spec(run / other_spec(INCUMBENT)), load_spec(run / SPEC)
    picked = {name: _picked(run, name, picks, given, recommended) for name in given.outputs}
    return with_fusions_of(given, picked)


def _picked(
    run: Path, output: str, picks: Mapping[str, str], given: EnsembleSpec, recommended: EnsembleSpec
) -> EnsembleSpec:
    """A spec that fuses this output as it was picked."""
    name = picks.get(output)
    if name == INCUMBENT:
        return given
    file = run / other_spec(f"{output}={name}")
    return load_spec(file) if name is not None and file.is_file() else recommended


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
