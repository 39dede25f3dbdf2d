"""Measure members on the cluster before they are placed: one task loads them one after another."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence

import ray

from quorate.deployments.control.artifacts.bringing import bring
from quorate.deployments.control.forked_workers import REPLICA_MODULES, worker_options
from quorate.deployments.control.processes.grouping import measured_for
from quorate.deployments.records.kept_files import KeptFiles
from quorate.deployments.records.measurements import Measured, Measurements
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.schema import MemberJob

_log = logging.getLogger(__name__)


def measurements(spec: EnsembleSpec, files: KeptFiles, before: Measurements, timeout_s: float) -> Measurements:
    """What is known of the members that ``placement`` places by their need.

    Args:
        spec: pinned.
        files: of it.
        before: what was measured of the revision before; what is the same is not measured again.
    """
    same = known(spec, before)
    new = [name for name in measured_for(spec) if name not in same.jobs]
    if not new:
        return same
    found = _measured(spec, new, files, timeout_s)
    jobs = {**same.jobs, **{name: fingerprint(spec.job(name)) for name in new if found.hop_s}}
    return Measurements(same.hop_s or found.hop_s, {**same.members, **found.members}, jobs)


def known(spec: EnsembleSpec, before: Measurements) -> Measurements:
    """What of an earlier revision's measurements holds for this one: of members that have not changed."""
    names = [name for name in measured_for(spec) if before.jobs.get(name) == fingerprint(spec.job(name))]
    if not names:
        return Measurements()
    members = {name: before.members[name] for name in names if name in before.members}
    return Measurements(before.hop_s, members, {name: before.jobs[name] for name in names})


def fingerprint(job: MemberJob) -> str:
    """Of all that decides what a member needs."""
    return hashlib.sha256(job.model_dump_json().encode()).hexdigest()[:16]


def _measured(spec: EnsembleSpec, names: Sequence[str], files: KeptFiles, timeout_s: float) -> Measurements:
    own = files.of_parts(names)
    cpus = max(spec.members[name].resources.num_cpus for name in names)
    task = ray.remote(num_cpus=cpus, max_retries=0, **worker_options(REPLICA_MODULES))(_measure)
    jobs = [spec.job(name).model_dump_json() for name in names]
    try:
        hop_s, found = ray.get(task.remote(jobs, json.dumps(own.to_json())), timeout=timeout_s)
    except (ray.exceptions.RayError, TimeoutError) as error:
        # A member that takes its process with it does so again when it is started, and that is told of then.
        _log.warning("members could not be measured, and are taken for slow: %s", str(error).splitlines()[-1])
        return Measurements()
    return Measurements(hop_s, {name: Measured(*one) for name, one in found.items()})


def _measure(jobs: list[str], files: str) -> tuple[float, dict[str, tuple[float, int]]]:
    """The task; on a node of the cluster, with the code of the revision alone, as fusion replicas have it."""
    import os

    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from quorate.deployments.members.measuring import measure_members
    from quorate.deployments.sources.factory import search_in

    folder = bring(KeptFiles.from_json(json.loads(files)))
    search_in(folder)
    return measure_members([MemberJob.model_validate_json(job) for job in jobs], folder, "measured")
