"""What a member's predictions depend on, as one digest each: its settings and weights, what it reads, its code."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import uuid
from pathlib import Path
from typing import Any

from quorate.deployments.spec import factory_code
from quorate.deployments.spec.digests import file_digest
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.model_formats import FACTORY, REMOTE, checkpoint_of, factory_of, format_of
from quorate.deployments.spec.schema import MemberJob
from quorate.tuning.data.later.same_member import HOW_IT_RUNS

_THIS_PROCESS = uuid.uuid4().hex
# Of a checkpoint the bytes count, which are digested apart.
_IRRELEVANT = HOW_IT_RUNS | {"weights", "digest"}

# Of a fusion that members read; the last two only outputs have.
_NO_PART_OF_VALUES = {"deadline_s", "hedge", "state", "task", "quantiles"}


def member_digest(job: MemberJob, folder: Path, checkpoint: bool = True) -> str:
    """Digest of the member's model, config, classes, inputs and, unless told otherwise, the bytes of its checkpoint."""
    left_out: Any = {"ensemble": True, "name": True, "digests": True, "member": _IRRELEVANT}
    settings = job.model_dump(mode="json", exclude=left_out)
    path = checkpoint_of(job.member) if checkpoint else None
    settings["checkpoint"] = file_digest(folder / path) if path and (folder / path).exists() else None
    return _digest(json.dumps(settings, sort_keys=True).encode())


def upstream_digest(spec: EnsembleSpec, name: str, folder: Path) -> str:
    """Digest of the members and fusions that a member reads, and of what they read; empty where it reads none."""
    found = []
    for source in sorted(spec.upstream(name)):
        if source in spec.members:
            job = spec.job(source)
            found.append(f"{source} {member_digest(job, folder)} {code_digest(job, folder)}")
        else:
            fusion = spec.all_fusions[source]
            state = file_digest(folder / fusion.state) if fusion.state else None
            found.append(f"{source} {fusion.model_dump_json(exclude=_NO_PART_OF_VALUES)} {state}")
    return " " + _digest("\n".join(found).encode()) if found else ""


def code_digest(job: MemberJob, folder: Path) -> str | None:
    """Digest of the code of the member's factory: beside the spec, else of its installed module.

    None for exported models and modules without a file; another in each process for a model of another server, since
    nobody tells when that changes.
    """
    model = job.member.model
    if format_of(model) is REMOTE:
        return _THIS_PROCESS
    if format_of(model) is not FACTORY:
        return None
    beside = factory_code.code_digest(model, factory_code.code_place(model, folder))
    if beside is not None:
        return beside
    try:
        found = importlib.util.find_spec(factory_of(model)[0])
    except (ImportError, ValueError):
        return None
    origin = Path(found.origin) if found and found.origin else None
    return file_digest(origin) if origin and origin.is_file() else None


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
