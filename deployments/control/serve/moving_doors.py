"""Doors go where nodes go: who has joined the cluster gets one, and who has left it for good is forgotten.

Nobody is asked to: replicas look, those with doors themselves and a RayService's. Of several that see the same one
holds the ensemble's lease, and does nothing that the record then true does not call for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from quorate.deployments.control import serve_apps
from quorate.deployments.control.artifacts.bringing import bring
from quorate.deployments.control.changes import plan_changes
from quorate.deployments.control.ports import door_nodes
from quorate.deployments.control.ray_private import ClusterStore
from quorate.deployments.control.replicas import Replicas
from quorate.deployments.control.serve_apps import ServeApp
from quorate.deployments.control.transaction import Change, changing
from quorate.deployments.errors import ConflictError, DeployError
from quorate.deployments.records.door_failures import DoorFailures
from quorate.deployments.records.lease import BY_ITSELF_S
from quorate.deployments.records.registry import Record
from quorate.deployments.rollout.rollout import Candidate, roll_out

_log = logging.getLogger(__name__)

# How often it is looked where nodes are. Who comes has to be seen twice.
LOOK_S = 5.0
# Who was away for so long has left. Before that a node that is back has its door as soon as Serve has started it.
GONE_S = 300.0
# What new doors may take to start: others who want to change the ensemble wait meanwhile.
START_S = BY_ITSELF_S - 30.0
# A node whose door did not start is tried again after so long, and then after twice that, up to the second.
_PAUSE_S, _LONGEST_PAUSE_S = 60.0, 3600.0


class NodeWatch:
    """Which nodes have joined, and which have left for good, from what is seen at several looks."""

    def __init__(self, gone_s: float = GONE_S, clock: Callable[[], float] = time.monotonic):
        self._gone_s, self._clock = gone_s, clock
        self._there: Set[str] = set()  # at the last look
        self._looked = clock()
        self._away_s: dict[str, float] = {}
        self._failures: dict[str, tuple[int, float]] = {}  # how many are known, and since when

    def look(
        self, recorded: Set[str], there: Set[str], failures: Mapping[str, int], period_s: float
    ) -> tuple[set[str], set[str]]:
        """Who has joined and lacks a door, and who has one and has left.

        Args:
            recorded: nodes with doors.
            there: nodes that may have some, now.
            failures: how often in a row none has started, by node. Each makes the time longer until the next attempt.
            period_s: between two looks; a longer time, in which nobody looked, counts as this.
        """
        now = self._clock()
        passed_s, self._looked = min(now - self._looked, period_s), now
        self._away_s = {node: self._away_s.get(node, -passed_s) + passed_s for node in recorded - there}
        seen_twice, self._there = self._there & there, there
        known = self._failures
        fresh = {node: (count, now) for node, count in failures.items() if known.get(node, (0, now))[0] != count}
        self._failures = {node: fresh.get(node) or known[node] for node in failures}
        waiting = {node for node, (count, since) in self._failures.items() if now - since < _pause_s(count)}
        gone = {node for node, away_s in self._away_s.items() if away_s >= self._gone_s}
        return set(seen_twice - recorded - waiting), gone


def _pause_s(failures: int) -> float:
    return float(min(_PAUSE_S * 2 ** min(failures - 1, 10), _LONGEST_PAUSE_S))


def follow_nodes(watch: NodeWatch, record: Record, period_s: float) -> None:
    """Look once where nodes are, and move an ensemble's doors where they have to be.

    Args:
        record: the ensemble's newest.
        period_s: between two looks.

    Raises:
        DeployError: no node can hold a door.
        UnavailableError: the cluster's head does not answer.
    """
    name = record.live.spec.name
    failures = DoorFailures(ClusterStore(), name)
    counts, there = failures.counts(), set(door_nodes(record.live.spec.serving.resources))
    failures.forget(counts.keys() - there)
    come, gone = watch.look(set(record.door_apps), there, counts, period_s)
    if come or gone:
        with suppress(ConflictError):  # somebody changes it: what is true then is looked at again
            move_doors(name, come, gone)


def move_doors(name: str, come: Set[str], gone: Set[str]) -> None:
    """Open doors on nodes and forget those of others; all other doors and members stay as they are, and are not asked.

    Where a door does not start that is noted, and logged.

    Raises:
        ConflictError: somebody else is changing the ensemble.
    """
    with changing(name, "a move of its doors", wait_s=0, by_itself=True) as change:
        old = change.record
        if old is None:
            return
        staying = {node: app for node, app in old.door_apps.items() if node not in gone}
        there = set(door_nodes(old.live.spec.serving.resources))  # that may have doors by now
        new = [_door(old, node) for node in sorted((come & there) - old.door_apps.keys())]
        failed = _start(old, new)
        started = {app.node: app.name for app in new if app.node not in failed}
        doors = {**staying, **started}
        if doors and doors != old.door_apps:
            record = replace(old, number=change.number, door_apps=doors)
            try:
                _commit(change, record, started.values())
            except (DeployError, RayError, RayServeException) as error:
                failed |= dict.fromkeys(started, str(error))
        failures = DoorFailures(ClusterStore(), name)
        failures.forget(started.keys() - failed.keys())
        failures.note(failed)
        for node, why in failed.items():
            _log.warning("%s has no door on %s: %s", name, node, why)


def _commit(change: Change, record: Record, new: Collection[str]) -> None:
    """Have new doors answer an example, then make the record true."""
    if new:
        candidate = Candidate(record.live, Replicas(new), bring(record.live.files.of("")))
        roll_out(candidate, lambda: change.commit(record))
    else:
        change.commit(record)


def _door(record: Record, node: str) -> ServeApp:
    return serve_apps.door_application(record.live, record.doors, record.http_port, record.grpc_port, node)


def _start(record: Record, doors: Sequence[ServeApp]) -> dict[str, str]:
    """Start doors, and wait for them; returns why one has not started, by node: it costs the others nothing."""
    planned = {found.app: found.problem for found in plan_changes(record, doors)}
    failed = {app.node: planned[app.name] for app in doors if planned[app.name]}
    begun = [app for app in doors if app.node not in failed]
    until = time.monotonic() + START_S
    serve_apps.begin(begun)
    for app in begun:
        try:
            serve_apps.wait_until_running([app.name], max(until - time.monotonic(), 1.0), None)
        except DeployError as error:
            failed[app.node] = str(error)
    return failed
