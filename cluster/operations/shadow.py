"""Shadows of a running ensemble: other fusions of its members' answers, compared with the live one, and promoted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorate.cluster.arguments.spec import SpecLike, naming_spec_lines, spec_and_folder
from quorate.cluster.local.connection import connected, is_jobs_address
from quorate.cluster.operations.deploy import starting
from quorate.cluster.operations.learning.shadows_by_labels import JudgedByOutput, judged_by_labels
from quorate.deployments.display import Displayed, Table
from quorate.deployments.errors import ShadowError

if TYPE_CHECKING:
    from quorate.deployments.control.shadows import ShadowStates
    from quorate.deployments.learning.shadows.asking import MemberCalls
    from quorate.deployments.learning.shadows.comparison import Comparison
    from quorate.deployments.rollout.rollout import Candidate, Check

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class ShadowOutput:
    """A shadow beside the live fusion, of one output.

    Attributes:
        shadow: its revision.
        output: empty where the ensemble has one.
        refused: why it is not computed.
        rows: that doors have compared since it is a shadow, they started, or another revision went live.
        changed, only_live, only_shadow: the share of the rows that say something else, and of those that only one of
            the two answers.
        apart: how far the answers are from each other in the mean: of classes half of all differences of
            probabilities, of values their difference; ``most_apart`` at most.
        confidence: the mean of the largest probability, of the live fusion and of the shadow; likewise ``coverage``,
            and ``single_s``, what fusing one row alone takes.
        row_s: what a row takes among many.
        failed_rows: that it could not be computed on, and ``failure`` why.
        share: of the requests that members of its own are asked for; 0 where it shares all of them.
        asked: of each of these its ``member``, how many ``rows`` it was asked about, how long it took in the mean
            (``reply_s``), how many rows ``failed`` and for what ``reasons``.
        judged: by the labels of recorded answers, in a report.
    """

    shadow: str
    output: str = ""
    refused: str = ""
    rows: int = 0
    changed: float = 0.0
    only_live: float = 0.0
    only_shadow: float = 0.0
    apart: float = 0.0
    most_apart: float = 0.0
    confidence: tuple[float, float] | None = None
    coverage: tuple[float, float] | None = None
    single_s: tuple[float, float] | None = None
    row_s: float | None = None
    failed_rows: int = 0
    failure: str = ""
    share: float = 0.0
    asked: tuple[dict[str, Any], ...] = ()
    judged: tuple[dict[str, Any], ...] = ()

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> ShadowOutput:
        """What JSON holds of one."""
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in told.items()}
        return cls(**given)


@dataclass(frozen=True, repr=False)
class Shadows(Displayed):
    """An ensemble's shadows.

    Attributes:
        live: the revision that they are compared with.
        doors: that have told, and ``silent`` those that have not.
        dropped_rows: that the doors had no time for, and ``given_up_rows`` that they found no moment to ask about.
        did: what this call has changed; empty of a report.
        unlabelled: why there is nothing by labels, in a report.
    """

    name: str
    live: str
    doors: int = 0
    silent: int = 0
    dropped_rows: int = 0
    given_up_rows: int = 0
    did: str = ""
    unlabelled: str = ""
    shadows: tuple[ShadowOutput, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Shadows:
        """What ``to_dict`` gave."""
        shadows = [ShadowOutput.from_dict(one) for one in told["shadows"]]
        return cls(**(told | {"shadows": tuple(shadows)}))

    def tables(self) -> Sequence[Table]:
        """What was done, how shadows differ from the live fusion, and who is better."""
        lines = [self.did] if self.did else []
        lines += [f"{self.name} answers with {self.live}; no shadows"] if not self.shadows else []
        for one in self.shadows:
            lines += [f"{one.shadow} is not computed: {one.refused}"] if one.refused else []
            lines += [f"{one.shadow} failed on {one.failed_rows} rows: {one.failure}"] if one.failure else []
        rows = [_cells(one) for one in self.shadows if not one.refused]
        if self.dropped_rows:
            lines.append(f"{self.dropped_rows} rows were left out: the doors had no time for them")
        if self.given_up_rows:
            lines.append(f"{self.given_up_rows} rows were not asked about: the doors had no moment without other work")
        if self.silent:
            lines.append(f"{self.silent} of {self.doors + self.silent} doors have not told")
        title = f"shadow : live {self.live}"
        found = [_table(rows, _COLUMNS, title, lines)] if rows else [Table(lines=lines)]
        asked = [_asked_cells(one, by) for one in self.shadows for by in one.asked]
        if asked:
            found.append(_table(asked, _ASKED_COLUMNS, "members that shadows ask", ()))
        judged = [_judged_cells(one, by) for one in self.shadows for by in one.judged]
        said = [self.unlabelled] if self.unlabelled else []
        if judged:
            found.append(_table(judged, _JUDGED_COLUMNS, "by labels; 95 % holds at all looks together", said))
        elif said:
            found.append(Table(lines=said))
        return found


_COLUMNS = ("shadow", "output", "rows", "differ", "apart", "confidence", "coverage", "one row", "unanswered")
_ASKED_COLUMNS = ("shadow", "member", "of requests", "rows", "reply", "failed", "why")
_JUDGED_COLUMNS = ("shadow", "output", "metric", "rows", "live", "shadow", "better by", "95 %")


@naming_spec_lines
def shadow(
    name: str,
    spec: SpecLike | None = None,
    *,
    share: float | None = None,
    report: bool = False,
    remove: str | None = None,
    promote: str | None = None,
    canary: float | None = None,
    canary_s: float = 30.0,
    folder: str | Path | None = None,
    timeout_s: float = 300.0,
    address: str | None = None,
    on_step: OnStep | None = None,
) -> Shadows:
    """Compute other fusions beside the live one, on what its members give anyway, and compare them.

    With a spec, it becomes a shadow; with none of ``spec``, ``remove`` and ``promote`` nothing changes. Members of a
    spec that the live fusion does not ask are started for the shadow alone, and asked for a share of the requests.

    Args:
        name: the ensemble.
        spec: another fusion, of the same members (rules, weights, calibrations) or with others.
        share: of the requests that these others are asked for, above 0 and up to 1; the spec's ``shadow_share`` when
            None.
        report: judge shadows by the labels of recorded answers, too.
        remove: a shadow's revision, or how it begins, that is to be none any more.
        promote: one that is to go live; ``rollback`` goes back.
        canary: share of the requests that it gets first, above 0 and below 1; None for none.
        canary_s: how long the canary is watched.
        folder: what the spec's paths start from (its file's).
        timeout_s: how long files may take to reach the doors, and members to load.
        address: of the Ray cluster; the local one when None.
        on_step: told what happens next.

    Raises:
        ClusterError: no such ensemble runs.
        ShadowError: the spec needs what the live fusion's members do not give, without a share, or there is no such
            shadow.
        CanaryError: the canary did worse. The old revision still answers.
        DeployError: a door could not be reached, or refused it.
    """
    asked: dict[str, Any] = {
        "share": share, "report": report, "remove": remove, "promote": promote, "canary": canary, "canary_s": canary_s,
        "timeout_s": timeout_s,
    }  # fmt: skip
    _check(name, spec is not None, share, remove, promote, canary)
    if is_jobs_address(address):
        return _in_job(name, spec, folder, address, asked, on_step)
    with connected(address):
        say = on_step or (lambda _: None)
        if spec is not None:
            did = _add(name, spec, folder, share, timeout_s, say)
        else:
            did = _change(name, remove, promote, canary, canary_s, timeout_s, say)
        return _looked_at(name, did, report)


def _check(
    name: str, adds: bool, share: float | None, remove: str | None, promote: str | None, canary: float | None
) -> None:
    """Raise ShadowError where what is asked for goes not together."""
    if adds + sum(one is not None for one in (remove, promote)) > 1:
        raise ShadowError(name, remove or promote or "", "give one of a spec, remove and promote at a time")
    if canary is not None and (promote is None or not 0 < canary < 1):
        raise ShadowError(name, promote or "", f"a canary of {canary:g} is no share of a promotion; give 0.1, say")
    if share is not None and not (adds and 0 < share <= 1):
        raise ShadowError(name, "of the spec", f"a share of {share:g} of its requests is none; give 0.05, say")


def _looked_at(name: str, did: str, report: bool) -> Shadows:
    """How all of them are now."""
    from quorate.deployments.control import shadows as control

    record = control.recorded_shadows(name)
    states = control.shadow_states(record)
    judged, why = judged_by_labels(record, states) if report and record.shadows else ({}, "")
    return Shadows(
        name, states.live, states.doors, states.silent, states.dropped_rows, states.given_up_rows, did, why,
        _outputs(states, judged),
    )  # fmt: skip


def _in_job(
    name: str, spec: SpecLike | None, folder: str | Path | None, address: str, asked: dict[str, Any],
    on_step: OnStep | None,
) -> Shadows:  # fmt: skip
    from quorate.cluster.jobs.call import call_in_job
    from quorate.cluster.jobs.parcel import spec_parcel

    told = {"name": name, "spec": spec is not None, **asked}
    if spec is None:
        return Shadows.from_dict(call_in_job(address, "shadow", told, on_step=on_step))
    with spec_parcel(*spec_and_folder(spec, folder)) as parcel:
        return Shadows.from_dict(call_in_job(address, "shadow", told, parcel, on_step))


def _add(
    name: str, spec: SpecLike, folder: str | Path | None, share: float | None, timeout_s: float, say: OnStep
) -> str:
    """Make it a shadow, and say so."""
    from quorate.deployments.control.shadows import add_shadow

    found, place = spec_and_folder(spec, folder)
    if found.name != name:
        raise ShadowError(name, "of the spec", f"it is of '{found.name}'; a shadow has the ensemble's own name")
    added = add_shadow(
        found, place, timeout_s, share, lambda states, seconds: say(starting(states, seconds, timeout_s))
    )  # fmt: skip
    own = (
        f"; {', '.join(added.own)} is asked by it alone, for {100 * added.share:.3g}% of the requests"
        if added.own
        else ""
    )
    return f"{added.spec.revision} is a shadow of {name}{own}"


def _change(
    name: str, remove: str | None, promote: str | None, canary: float | None, canary_s: float, timeout_s: float,
    say: OnStep,
) -> str:  # fmt: skip
    """Do what is asked for, and say so."""
    from quorate.deployments.control import shadows as control
    from quorate.deployments.control.deploy import promote_shadow

    if remove is not None:
        control.remove_shadow(name, remove)
        return f"{remove} is no shadow of {name} any more"
    if promote is None:
        return ""
    revision = promote_shadow(name, promote, timeout_s, _watched(name, canary, canary_s, say))
    return f"{name} answers with revision {revision}; quorate rollback {name} goes back"


def _watched(name: str, canary: float | None, canary_s: float, say: OnStep) -> Check | None:
    """Have it answer a share of the requests first."""
    if canary is None:
        return None
    from quorate.deployments.control.shadows import recorded_shadows
    from quorate.deployments.rollout.canary import watch

    live, share = recorded_shadows(name).live.spec.revision, canary

    def check(candidate: Candidate) -> None:
        say(f"giving it {share:.0%} of the requests for {canary_s:g} s")
        watch(candidate, live, share, canary_s)

    return check


def _outputs(states: ShadowStates, judged: JudgedByOutput) -> tuple[ShadowOutput, ...]:
    found = []
    for name, state in states.shadows.items():
        asked = tuple(_asked(member, calls) for member, calls in state.asked.items())
        if state.refused or not state.outputs:
            why = state.refused or "no door has taken it up yet; look again in a few seconds"
            found.append(ShadowOutput(name, refused=why, share=state.share, asked=asked))
        for output, compared in state.outputs.items() if not state.refused else ():
            one = _output(name, output, compared, judged.get((name, output), ()))
            found.append(replace(one, share=state.share, asked=asked))
    return tuple(found)


def _asked(member: str, calls: MemberCalls) -> dict[str, Any]:
    return {
        "member": member, "rows": calls.rows, "reply_s": calls.seconds / calls.replies if calls.replies else None,
        "failed": calls.failed.total(), "reasons": dict(calls.failed),
    }  # fmt: skip


def _output(name: str, output: str, compared: Comparison, judged: tuple[dict[str, Any], ...]) -> ShadowOutput:
    both, rows = max(compared.both, 1), max(compared.rows, 1)
    singles = max(compared.singles, 1)
    sure = (compared.confidence_live / both, compared.confidence_shadow / both)
    return ShadowOutput(
        name, output, "", compared.rows, compared.changed / both, compared.only_live / rows,
        compared.only_shadow / rows, compared.apart / both, compared.most_apart,
        sure if any(sure) else None,
        (compared.coverage_live / both, compared.coverage_shadow / both) if compared.both else None,
        (compared.single_live_s / singles, compared.single_s / singles) if compared.singles else None,
        compared.fused_s / rows if compared.rows else None, compared.failed_rows, compared.failure, judged=judged,
    )  # fmt: skip


def _cells(one: ShadowOutput) -> list[str]:
    """Of pairs the shadow's number first; nothing of what is as it should be."""
    compared, whole = one.rows > 0, one.coverage is None or min(one.coverage) > 0.9995
    return [
        one.shadow, one.output, str(one.rows), f"{one.changed:.2%}" if compared else "",
        f"{one.apart:.4g}" if compared else "", _pair(one.confidence, "{:.3f}"),
        "" if whole else _pair(one.coverage, "{:.3f}"), _pair(one.single_s, "{:.0f} us", 1e6),
        f"{one.only_live:.2%}" if one.only_live else "",
    ]  # fmt: skip


def _pair(pair: tuple[float, float] | None, form: str, unit: float = 1.0) -> str:
    """The shadow's number, and the live fusion's."""
    return "" if pair is None else f"{form.format(unit * pair[1])} : {form.format(unit * pair[0])}"


def _table(rows: Sequence[Sequence[str]], columns: Sequence[str], title: str, lines: Sequence[str]) -> Table:
    """Without columns that say nothing."""
    kept = [at for at in range(len(columns)) if any(row[at] for row in rows)]
    return Table([columns[at] for at in kept], [[row[at] for at in kept] for row in rows], title, lines)


def _asked_cells(one: ShadowOutput, by: dict[str, Any]) -> list[str]:
    why = ", ".join(f"{reason} {rows}" for reason, rows in by["reasons"].items())
    reply = "" if by["reply_s"] is None else f"{1000 * by['reply_s']:.1f} ms"
    return [one.shadow, by["member"], f"{one.share:.2%}", str(by["rows"]), reply, str(by["failed"] or ""), why]


def _judged_cells(one: ShadowOutput, by: dict[str, Any]) -> list[str]:
    numbers = [f"{by[name]:.3f}" for name in ("live", "shadow")]
    between = "" if by["least"] is None else f"{by['least']:+.3f} : {by['most']:+.3f}"
    return [
        one.shadow, one.output, by["metric"], str(by["rows"]), *numbers, f"{by['gain']:+.3f}",
        between,
    ]  # fmt: skip
