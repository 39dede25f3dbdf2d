"""Shadows of a running ensemble: fusions that its doors compute beside the live one, and never answer with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quorate.deployments.control.artifacts.bringing import bring
from quorate.deployments.control.artifacts.holders import Holders
from quorate.deployments.control.artifacts.spreading import Spreading
from quorate.deployments.control.ray_private import ClusterStore, content_cache, kept_root
from quorate.deployments.control.replicas import Replicas
from quorate.deployments.control.transaction import changing, record_of
from quorate.deployments.engine.revision import Revision, build_revision
from quorate.deployments.errors import ShadowError
from quorate.deployments.learning.shadows.comparison import Comparison
from quorate.deployments.learning.shadows.fitting import misfit
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
    """

    refused: str = ""
    outputs: dict[str, Comparison] = field(default_factory=dict)


@dataclass(frozen=True)
class ShadowStates:
    """All shadows of an ensemble.

    Attributes:
        live: the revision that they are compared with.
        doors: that have told, and ``silent`` that have not, or have another revision live.
        dropped_rows: that no time was left for.
    """

    live: str
    doors: int
    silent: int
    dropped_rows: int
    shadows: dict[str, ShadowState]


def add_shadow(spec: EnsembleSpec, folder: Path, timeout_s: float = 300.0) -> str:
    """Have the doors of the running ensemble of this name compute another fusion; returns what it is called.

    What is beside the fusion in a spec, as ``record`` and ``placement``, is that of the live one.

    Args:
        folder: what the spec's relative paths start from.
        timeout_s: how long its files may take to reach the doors.

    Raises:
        ClusterError: no such ensemble runs.
        ShadowError: it needs what the live fusion's members do not give, or is live already.
        ConflictError: somebody else is changing the ensemble.
    """
    with inside(spec, folder) as (named, place):
        pinned = pin(named, place)
        with changing(spec.name, "another shadow") as change:
            record = record_of(change.record, spec.name)
            live = record.live
            shadow = _with_what_is_beside(pinned, live.spec)
            check_shadow(build_revision(shadow, place), built(live), record)
            files = keep_files(shadow, place, kept_root(), live.files.store, content_cache())
            upload(files, kept_root() / files.name)
            Holders(ClusterStore()).add(files.name)
            Spreading(files).wait(timeout_s)
            apps = {name: live.apps[name] for name in shadow.members}
            publication = Publication(shadow, folder.resolve(), files, apps, live.measured)
            change.commit(record.shadowed_by([*record.shadows, publication]))
            _adopt(record)
    return shadow.revision


def _with_what_is_beside(spec: EnsembleSpec, live: EnsembleSpec) -> EnsembleSpec:
    """A spec with what the live one has beside its fusion, as far as it has the members."""
    here = spec.members.keys()
    together = [group for group in live.together if here >= set(group)]
    beside: dict[str, Any] = {name: getattr(live, name) for name in live.beside}
    beside |= {"together": tuple(together), "apart": tuple(name for name in live.apart if name in here)}
    return spec.model_copy(update=beside)


def check_shadow(shadow: Revision, live: Revision, record: Record) -> None:
    """Raise ShadowError for a revision that cannot be one, or is one."""
    name = live.spec.name
    if shadow.name == live.name:
        raise ShadowError(name, shadow.name, "it is live: a shadow is another fusion of the same members")
    if any(one.spec.revision == shadow.name for one in record.shadows):
        raise ShadowError(name, shadow.name, f"it is a shadow already; quorate shadow {name} --report compares it")
    if len(record.shadows) >= MOST:
        raise ShadowError(name, shadow.name, f"there are {MOST} already; remove one: quorate shadow {name} --remove")
    why = misfit(shadow, live)
    if why:
        raise ShadowError(name, shadow.name, why)


def remove_shadow(name: str, revision: str) -> None:
    """Compute it no more.

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
    shadows = {one.spec.revision: ShadowState() for one in record.shadows}
    for door in told:
        for name, said in door["shadows"].items():
            if name in shadows:
                _join(shadows[name], said["refused"], said["outputs"])
    dropped = sum(one["dropped_rows"] for one in told)
    return ShadowStates(live, len(told), len(replies) - len(told), dropped, shadows)


def _join(state: ShadowState, refused: str, outputs: dict[str, dict[str, object]]) -> None:
    state.refused = refused or state.refused
    for output, said in outputs.items():
        state.outputs[output] = state.outputs.get(output, Comparison()).joined(Comparison.from_json(said))


def built(publication: Publication) -> Revision:
    """Its fusion, of its own files."""
    return build_revision(publication.spec, bring(publication.files.of("")))


def _adopt(record: Record) -> None:
    """Doors that do not hear this do it by themselves soon."""
    Replicas(record.door_apps.values()).call("adopt", timeout_s=CONTROL_TIMEOUT_S)
