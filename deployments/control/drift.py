"""What the doors of a running ensemble know of drift, together."""

from __future__ import annotations

from dataclasses import replace

from quorate.deployments.control.ray_private import ClusterStore
from quorate.deployments.control.replicas import Replicas
from quorate.deployments.control.transaction import record_of
from quorate.deployments.learning.drift.report import DriftReport, joined_doors
from quorate.deployments.records.registry import Registry
from quorate.deployments.rollout.rollout import CONTROL_TIMEOUT_S

_NOT_ASKED = "nothing is watched: the spec of {name} has no drift; deploy it with drift: {{}}"
_NOT_YET = "no door of {name} watches its live revision yet; look again in a few seconds"


def drift_of(name: str) -> DriftReport:
    """How far an ensemble's members and answers have drifted, as all its doors see it.

    Raises:
        ClusterError: no such ensemble runs.
        UnavailableError: the cluster's head does not answer.
    """
    record = record_of(Registry(ClusterStore()).latest(name), name)
    live = record.live.spec
    if live.drift is None:
        return DriftReport(name, live.revision, why=_NOT_ASKED.format(name=name))
    replies = Replicas(record.door_apps.values()).call("drift", timeout_s=CONTROL_TIMEOUT_S)
    told = [one for one in replies if not isinstance(one, BaseException) and one["revision"] == live.revision]
    found = joined_doors(name, told, len(replies) - len(told))
    return found if told else replace(found, why=_NOT_YET.format(name=name))
