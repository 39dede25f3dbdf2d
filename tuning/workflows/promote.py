"""From a run's folder into the running service: verified before it answers anyone, on a share of requests if wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from quorate.deployments.display import Displayed, Table
from quorate.deployments.errors import DeployError
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import load_spec
from quorate.tuning.errors import PromotionError
from quorate.tuning.runs.probe import Probe, load_probe

if TYPE_CHECKING:
    from quorate.deployments.control.rollout import Candidate, Share

CANARY_S = 30.0
FEWEST_CANARY_ANSWERS = 50
_POLL_S = 0.5
# A canary is stopped for a difference that chance makes once in so many looks; half a minute has 60 of them.
_P_VALUE = 1e-3
_SLOWER = 1.2
_FIRST_CALLS = 3


@dataclass(frozen=True)
class CanaryReport:
    """How the canary went beside the live revision.

    Attributes:
        share: of the requests that it got.
        error_rates: of the live revision and of the canary.
        median_s: latencies of both.
    """

    share: float
    seconds: float
    answers: int
    error_rates: tuple[float, float]
    median_s: tuple[float, float]


@dataclass(frozen=True, repr=False)
class Promotion(Displayed):
    """What is live now.

    Attributes:
        revision: the promoted one.
        previous: what answered before; ``quorate rollback`` goes back to it.
        probe_rows: rows that every fusion replica answered as the run did.
        largest_difference: between a served and an expected probability.
    """

    name: str
    revision: str
    previous: str
    http: str
    probe_rows: int
    largest_difference: float
    canary: CanaryReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return asdict(self)

    def tables(self) -> Sequence[Table]:
        """What is live now, and how that was made sure of."""
        lines = [
            f"{self.name} answers with revision {self.revision}; "
            f"quorate rollback {self.name} goes back to {self.previous}",
            f"{self.probe_rows} probe rows answered as in the run, to {self.largest_difference:.1g}",
        ]
        if self.canary is not None:
            rates, medians = self.canary.error_rates, self.canary.median_s
            lines.append(
                f"canary: {self.canary.answers} requests, errors {rates[1]:.2%} (before {rates[0]:.2%}), "
                f"median {1e3 * medians[1]:.1f} ms (before {1e3 * medians[0]:.1f} ms)"
            )
        return [Table(lines=lines)]


def promote(
    run: Path,
    *,
    pick: int | None = None,
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
        pick: of a sweep's Pareto set; the best when None.
        canary: share of the requests, above 0 and below 1; None for none.
        canary_s: how long both are watched.
        timeout_s: how long new members may take to load.
        on_step: told what happens next.

    Raises:
        PromotionError: the run or pick is none, nothing of its name runs, answers differ from the run's, or the canary
            did worse. The old revision still answers.
        DeployError: a member or a replica could not be brought up. The old revision still answers.
    """
    from quorate.deployments.control import deploy as applications

    say = on_step or (lambda step: None)
    spec, folder = _read(run, pick)
    probe = load_probe(folder, spec)
    if canary is not None and not 0 < canary < 1:
        raise PromotionError("canary", f"the share is {canary:g}", "give more than 0 % and less than 100 %")
    live = _live(spec)
    seen: dict[str, Any] = {}

    def check(candidate: Candidate) -> None:
        say("comparing answers with the run's")
        seen["difference"] = verify(candidate, probe)
        if canary is not None:
            say(f"giving it {canary:.0%} of the requests for {canary_s:g} s")
            seen["canary"] = watch(candidate, live["revision"], canary, canary_s)

    say("bringing up members")
    done = applications.deploy(spec, folder, timeout_s=timeout_s, check=check)
    if "difference" not in seen:
        raise PromotionError(str(folder), f"revision {done.revision} is live already", "nothing is left to do")
    return Promotion(
        spec.name, done.revision, live["revision"], done.http, len(probe.expected), seen["difference"],
        seen.get("canary"),
    )  # fmt: skip


def _read(run: Path, pick: int | None) -> tuple[EnsembleSpec, Path]:
    folder = run if pick is None else run / "pareto" / str(pick)
    if not (folder / "spec.yaml").is_file():
        picks = sorted(path.name for path in (run / "pareto").glob("*")) if run.is_dir() else []
        known = f"picks are {', '.join(picks)}" if picks else "give the folder that quorate tune named"
        raise PromotionError(str(folder), "there is no spec.yaml", known)
    return load_spec(folder / "spec.yaml"), folder


def _live(spec: EnsembleSpec) -> dict[str, Any]:
    from quorate.deployments.control import deploy as applications

    found = applications.describe_fusion(spec.name)
    if not found:
        raise PromotionError(spec.name, "no ensemble of this name runs", "quorate deploy it first")
    running = EnsembleSpec.model_validate(found[0]["spec"])
    if running.wiring != spec.wiring:
        fix = "deploy the run's spec: its doors have to restart"
        raise PromotionError(spec.name, "the running ensemble has other inputs, classes or serving", fix)
    return found[0]


def verify(candidate: Candidate, probe: Probe) -> float:
    """The largest difference between what any fusion replica answers and what the run did.

    Raises:
        PromotionError: it is more than rounding.
    """
    served = _answers(candidate, probe)
    for values in served:
        if values.shape != probe.expected.shape:
            found = f"answers have shape {list(values.shape)}, the run's {list(probe.expected.shape)}"
            raise PromotionError(candidate.revision, found, "tune again with the members as they are")
    difference = max(float(np.abs(values - probe.expected).max()) for values in served)
    if not difference <= probe.tolerance:
        row = int(np.abs(served[0] - probe.expected).max(axis=1).argmax())
        found = f"its answers differ from the run's by {difference:.3g}, most in row {row} of the probe set"
        raise PromotionError(candidate.revision, found, "tune again: members or code are not what they were")
    return difference


def _answers(candidate: Candidate, probe: Probe) -> list[Any]:
    """A member's first calls may be slow; the last failure counts."""
    for attempt in range(_FIRST_CALLS):
        try:
            return candidate.probe(probe.inputs)
        except DeployError as error:
            if attempt == _FIRST_CALLS - 1:
                fix = "look at quorate status for the members' words"
                raise PromotionError(candidate.revision, f"it does not answer the probe set: {error}", fix) from None
            time.sleep(_POLL_S)
    raise AssertionError("unreachable")


def watch(candidate: Candidate, live: str, share: float, seconds: float) -> CanaryReport:
    """Let the candidate answer a share of the requests beside the live revision, and compare.

    Raises:
        PromotionError: it made more errors or was slower, or there were too few requests to tell.
    """
    candidate.start_canary(share)
    until = time.monotonic() + seconds
    while True:
        time.sleep(min(_POLL_S, max(until - time.monotonic(), 0.0)))
        seen = candidate.watched()
        if candidate.revision not in seen:
            found = "the fusion replicas that had it were replaced during the canary"
            raise PromotionError(candidate.revision, found, "promote again")
        old, new = seen[live], seen[candidate.revision]
        compare(candidate.revision, old, new)
        if time.monotonic() >= until:
            break
    if new.answers < FEWEST_CANARY_ANSWERS:
        found = f"the canary had {new.answers} requests in {seconds:g} s"
        raise PromotionError(candidate.revision, found, "give it longer or a larger share, or promote without a canary")
    rates, medians = (_error_rate(old), _error_rate(new)), (_median(old), _median(new))
    return CanaryReport(share, seconds, new.answers, rates, medians)


def compare(revision: str, old: Share, new: Share) -> None:
    """Raise PromotionError when a canary does worse than chance explains.

    Errors and degraded answers are compared by Fisher's exact test, latencies by the Mann-Whitney U test and, since
    with many requests a difference of no matter is significant too, by their medians.
    """
    for what, bad_old, bad_new in (
        ("errors", old.errors, new.errors),
        ("degraded answers", old.degraded, new.degraded),
    ):
        counts = [[bad_new, new.answers + new.errors - bad_new], [bad_old, old.answers + old.errors - bad_old]]
        if bad_new and stats.fisher_exact(counts, alternative="greater").pvalue < _P_VALUE:
            found = f"the canary had {bad_new} {what} in {sum(counts[0])} requests"
            beside = f"the old one {bad_old} in {sum(counts[1])}; it was stopped"
            raise PromotionError(revision, f"{found}, {beside}", "look at quorate status, and tune again")
    if min(len(old.latencies_s), len(new.latencies_s)) < FEWEST_CANARY_ANSWERS:
        return
    slower = stats.mannwhitneyu(new.latencies_s, old.latencies_s, alternative="greater").pvalue < _P_VALUE
    if slower and _median(new) > _SLOWER * _median(old):
        found = f"the canary's median latency was {1e3 * _median(new):.1f} ms"
        beside = f"the old one's {1e3 * _median(old):.1f} ms; it was stopped"
        raise PromotionError(revision, f"{found}, {beside}", "choose a cheaper pick, or promote without a canary")


def _error_rate(share: Share) -> float:
    return share.errors / max(share.answers + share.errors, 1)


def _median(share: Share) -> float:
    return float(np.median(share.latencies_s)) if len(share.latencies_s) else float("nan")
