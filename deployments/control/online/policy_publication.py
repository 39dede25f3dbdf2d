"""A bandit that was learned as a publication: its models are a file of the revision, which comes to the nodes like any.

Only that file is new. What members need is what the live revision has, and nodes that hold that have it already.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save

from quorate.deployments.control.artifacts.bringing import bring
from quorate.deployments.control.artifacts.spreading import spread_like
from quorate.deployments.control.ray_private import content_cache, kept_root
from quorate.deployments.learning.online.bandit.deciding import PolicyWish
from quorate.deployments.records.artifact_store import upload
from quorate.deployments.records.kept_files import keep_ensemble_files
from quorate.deployments.records.registry import Publication
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.deployments.spec.named_files import ensemble_files
from quorate.fusion.learned.bandit import Bandit

# Where in a revision's folder learned models are.
_FOLDER = "learned"


def policy_spec(live: Publication, pinned: Publication, output: str, wish: PolicyWish, scratch: Path) -> EnsembleSpec:
    """The live spec with another bandit, its files in a folder.

    Args:
        pinned: what somebody deployed, whose bandit it is that is taken back.
        scratch: an empty folder.
    """
    if wish.back:
        fusion = pinned.spec.all_fusions[output]
        assert fusion.state is not None
        state = (bring(pinned.files.of("")) / fusion.state).read_bytes()
    else:
        fusion, state = _learned(live.spec.all_fusions[output], wish.rule, output)
    spec = _with_fusion(live.spec, output, fusion)
    here, changed = bring(live.files.of("")), f"{spec.field_of(output)}.state"
    for file in ensemble_files(spec):
        target = scratch / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.field == changed:
            target.write_bytes(state)
        elif not target.exists():
            target.symlink_to(here / file.path)
    digests = {**spec.digests, changed: f"sha256:{hashlib.sha256(state).hexdigest()}"}
    return spec.model_copy(update={"digests": digests})


def policy_publication(live: Publication, spec: EnsembleSpec, folder: Path) -> Publication:
    """The live publication with such a spec, its files kept on this node, and where the live one's are. Hold the
    ensemble's lease.
    """
    files = keep_ensemble_files(spec, folder, live.files, kept_root(), content_cache())
    if files.store:
        upload(files.of(""), kept_root() / files.name)
    spread_like(files, live.files.name)
    return replace(live, spec=spec, files=files)


def _learned(fusion: FusionSpec, rule: Bandit, output: str) -> tuple[FusionSpec, bytes]:
    state = save(rule.state())
    name = f"{_FOLDER}/{output}-{hashlib.sha256(state).hexdigest()[:16]}.safetensors"
    return fusion.model_copy(update={"options": dict(rule.options), "state": name}), state


def _with_fusion(spec: EnsembleSpec, output: str, fusion: FusionSpec) -> EnsembleSpec:
    if spec.fusion:
        return spec.model_copy(update={"fusion": fusion})
    return spec.model_copy(update={"fusions": {**spec.fusions, output: fusion}})
