"""Shadows of a running ensemble: fusions that its doors compute beside the live one, and never answer with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quorate.deployments.control.artifacts.holders import Holders
from quorate.deployments.control.artifacts.spreading import Spreading
from quorate.deployments.control.built_revision import built
from quorate.deployments.control.changes import plan_changes, recorded_needs
from quorate.deployments.control.ray_private import ClusterStore, content_cache, kept_root
from quorate.deployments.control.replicas import Replicas
from quorate.deployments.control.serve_apps import Progress, member_application, start
from quorate.deployments.control.shared_members import claim
from quorate.deployments.control.transaction import Change, changing, record_of, recorded_apps
from quorate.deployments.engine.revision import Revision, build_revision
from quorate.deployments.errors import DeployError, ShadowError
from quorate.deployments.learning.shadows.asking import MemberCalls
from quorate.deployments.learning.shadows.comparison import Comparison
from quorate.deployments.learning.shadows.fitting import misfit, own_members
from quorate.deployments.learning.shadows.judging import JudgedSums
from quorate.deployments.records.artifact_store import upload
from quorate.deployments.records.kept_files import keep_files
from quorate.deployments.records.registry import Publication, Record, Registry
from quorate.deployments.rollout.rollout import CONTROL_TIMEOUT_S
from quorate.deployments.spec.digests import pin
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.outside_files import inside

# Each door computes all of them, in a share of its time that does not grow with their number.
MOST = 32


@dataclass
class ShadowState:
    """One shadow as all doors have it.

    Attributes:
        refused: why it is not computed, by a door that does not.
        outputs: comparisons by output; the name is empty where there is one.
        share: of the requests that members of its own are asked for; 0 where it has none.
        asked: what became of that, by member.
        judged: by labels of what doors still remember, by output.
    """

    refused: str = ""
    outputs: dict[str, Comparison] = field(default_factory=dict)
    share: float = 0.0
    asked: dict[str, MemberCalls] = field(default_factory=dict)
    judged: dict[str, JudgedSums] = field(default_factory=dict)


@dataclass(frozen=True)
class ShadowStates:
    """All shadows of an ensemble.

    Attributes:
        live: the revision that they are compared with.
        doors: that have told, and ``silent`` that have not, or have another revision live.
        dropped_rows: that no time was left for, and ``given_up_rows`` that own members were not asked about.
    """

    live: str
    doors: int
    silent: int
    dropped_rows: int
    given_up_rows: int
    shadows: dict[str, ShadowState]


def add_shadow(
    spec: EnsembleSpec, folder: Path, timeout_s: float = 300.0, share: float | None = None,
    progress: Progress | None = None,
) -> Publication:  # fmt: skip
    """Have the doors of the running ensemble of this name compute another fusion; returns what it became.

    What is beside the fusion in a spec, as ``record`` and ``placement``, is that of the live one. Members that the live
    fusion does not ask are the shadow's own: each is started in a process of its own, and stopped with it.

    Args:
        folder: what the spec's relative paths start from.
        timeout_s: how long its files may take to reach the doors, and its own members to load.
        share: of the requests that own members are asked for; the spec's when None.
        progress: called with each part's state while own members start.

    Raises:
        ClusterError: no such ensemble runs.
        ShadowError: it needs what the live fusion's members do not give, without a share, or is live already.
        DeployError: there is no room for its own members, or one could not be started; nothing of it stays.
        ConflictError: somebody else is changing the ensemble.
    """
    with inside(spec, folder) as (named, place):
        pinned = pin(named, place)
        with changing(spec.name, "another shadow") as change:
            record = record_of(change.record, spec.name)
            live = record.live
            shadow = _with_what_is_beside(pinned, live.spec)
            running = built(live)
            own = _own(build_revision(shadow, place), running)
            shadow = _apart(shadow, own)
            check_shadow(build_revision(shadow, place), running, record, own)
            asked = _share(shadow, own, spec.shadow_share, share)
            files = keep_files(shadow, place, kept_root(), live.files.store, content_cache())
            upload(files, kept_root() / files.name)
            Holders(ClusterStore()).add(files.name)
            Spreading(files).wait(timeout_s)
            apps = {name: live.apps[name] for name in shadow.members if name not in own}
            apps |= {name: member_application(shadow, name, folder.resolve(), files).name for name in own}
            publication = Publication(shadow, folder.resolve(), files, apps, live.measured, own, asked)
            following = record.shadowed_by([*record.shadows, publication])
            if own:
                _start_own(change, following, publication, timeout_s, progress)
            change.commit(following)
            _adopt(record)
    return publication


def _own(shadow: Revision, live: Revision) -> tuple[str, ...]:
    """The members that a shadow has to ask itself; none where it can be no shadow."""
    return own_members(shadow, live) if shadow.spec.wiring == live.spec.wiring else ()


def _share(shadow: EnsembleSpec, own: tuple[str, ...], said: float | None, given: float | None) -> float:
    """Of the requests, for which own members are asked: as was given, or as its spec says."""
    share = said if given is None else given
    if own and share is None:
        found = f"{', '.join(own)} would be asked for it alone; say for which share of the requests"
        raise ShadowError(shadow.name, shadow.revision, f"{found}: --share 5%, or shadow_share: 0.05 in its spec")
    if given is not None and not own:
        raise ShadowError(shadow.name, shadow.revision, "all of its members are asked anyway; leave --share out")
    return share if own and share is not None else 0.0


def _apart(spec: EnsembleSpec, own: tuple[str, ...]) -> EnsembleSpec:
    """A spec that says of own members, where they might share a process, that each has its own: so they go live."""
    if not own or (spec.placement == "apart" and not spec.together):
        return spec
    without = [tuple(name for name in group if name not in own) for group in spec.together]
    together = tuple(group for group in without if len(group) > 1)
    return spec.model_copy(update={"together": together, "apart": tuple(sorted({*spec.apart, *own}))})


def _start_own(
    change: Change, following: Record, shadow: Publication, timeout_s: float, progress: Progress | None
) -> None:
    """Have a shadow's own members run: where they do not, nothing has changed but what the change takes away again."""
    wanted = set(shadow.own_apps.values())
    needs = recorded_needs(shadow)
    for found in plan_changes(change.record, recorded_apps(following), needs):
        if found.app in wanted and found.problem:
            raise DeployError(
                f"no place for {found.part}, which the shadow asks alone: {found.problem}; change its resources or add "
                "nodes"
            )
    change.lease.check()
    claim(following)
    start([app for app in recorded_apps(following) if app.name in wanted], timeout_s, progress)


def _with_what_is_beside(spec: EnsembleSpec, live: EnsembleSpec) -> EnsembleSpec:
    """A spec with what the live one has beside its fusion, as far as it has the members."""
    here = spec.members.keys()
    together = [group for group in live.together if here >= set(group)]
    beside: dict[str, Any] = {name: getattr(live, name) for name in live.beside}
    beside |= {"together": tuple(together), "apart": tuple(name for name in live.apart if name in here)}
    if live.drift is not None:  # its answers are others than the live fusion's
        own = None if spec.drift is None else spec.drift.reference
        beside["drift"] = live.drift.model_copy(update={"reference": own})
    return spec.model_copy(update=beside)


def check_shadow(shadow: Revision, live: Revision, record: Record, own: tuple[str, ...] = ()) -> None:
    """Raise ShadowError for a revision that cannot be one, or is one.

    Args:
        own: members that it asks itself.
    """
    name = live.spec.name
    if shadow.name == live.name:
        raise ShadowError(name, shadow.name, "it is live: a shadow is another fusion of the same members")
    if any(one.spec.revision == shadow.name for one in record.shadows):
        raise ShadowError(name, shadow.name, f"it is a shadow already; quorate shadow {name} --report compares it")
    if len(record.shadows) >= MOST:
        raise ShadowError(name, shadow.name, f"there are {MOST} already; remove one: quorate shadow {name} --remove")
    why = misfit(shadow, live, own)
    if why:
        raise ShadowError(name, shadow.name, why)


def remove_shadow(name: str, revision: str) -> None:
    """Compute it no more; members of its own are stopped.

    Raises:
        ClusterError: no such ensemble runs.
        ShadowError: it has no such shadow.
        ConflictError: somebody else is changing the ensemble.
    """
    with changing(name, "one shadow less") as change:
        record = record_of(change.record, name)
        gone = shadow_of(record, revision)
        change.commit(record.shadowed_by([one for one in record.shadows if one is not gone]))
        _adopt(record)


def shadow_of(record: Record, revision: str) -> Publication:
    """The shadow that is called so, or is the only one whose name begins so.

    Raises:
        ShadowError: there is none, or are several.
    """
    found = [one for one in record.shadows if one.spec.revision.startswith(revision)]
    if revision and len(found) == 1:
        return found[0]
    known = ", ".join(one.spec.revision for one in record.shadows)
    what = f"it is no shadow; there are {known}" if known else "there are no shadows; quorate shadow NAME SPEC adds one"
    raise ShadowError(record.live.spec.name, revision, what)


def recorded_shadows(name: str) -> Record:
    """What is true of an ensemble, its shadows among it.

    Raises:
        ClusterError: no such ensemble runs.
    """
    return record_of(Registry(ClusterStore()).latest(name), name)


def shadow_states(record: Record) -> ShadowStates:
    """How an ensemble's shadows compare with what is live, over all its doors.

    Raises:
        UnavailableError: the cluster's head does not answer.
    """
    live = record.live.spec.revision
    replies = Replicas(record.door_apps.values()).call("shadows", timeout_s=CONTROL_TIMEOUT_S)
    told = [one for one in replies if not isinstance(one, BaseException) and one["live"] == live]
    shadows = {
        one.spec.revision: ShadowState(share=one.share, asked={name: MemberCalls() for name in one.own})
        for one in record.shadows
    }
    for door in told:
        for name, said in door["shadows"].items():
            if name in shadows:
                _join(shadows[name], said)
    dropped, given_up = (sum(one.get(what, 0) for one in told) for what in ("dropped_rows", "given_up_rows"))
    return ShadowStates(live, len(told), len(replies) - len(told), dropped, given_up, shadows)


def _join(state: ShadowState, said: dict[str, Any]) -> None:
    state.refused = said["refused"] or state.refused
    for output, compared in said["outputs"].items():
        state.outputs[output] = state.outputs.get(output, Comparison()).joined(Comparison.from_json(compared))
    for output, sums in said.get("judged", {}).items():
        state.judged[output] = state.judged.get(output, JudgedSums()).joined(JudgedSums.from_json(sums))
    for member, calls in said.get("asks", {}).items():
        state.asked[member] = state.asked.get(member, MemberCalls()).joined(MemberCalls.from_json(calls))


def _adopt(record: Record) -> None:
    """Doors that do not hear this do it by themselves soon."""
    Replicas(record.door_apps.values()).call("adopt", timeout_s=CONTROL_TIMEOUT_S)
