"""The spec a sweep was given, kept in the run's folder with all it names."""

from __future__ import annotations

from pathlib import Path

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import load_spec
from quorate.deployments.spec.model_formats import FACTORY, checkpoint_of, format_of
from quorate.deployments.spec.schema import MemberSpec
from quorate.tuning.runs.run_folder import copy_factory, save_deployable

_PLACE = "given"


def save_input_spec(spec: EnsembleSpec, source: Path, run: Path) -> None:
    """Copy a spec, its checkpoints and the factories beside it."""
    (run / _PLACE).mkdir()
    kept = save_deployable(spec, source, run / _PLACE)
    for member in kept.members.values():
        copy_factory(run / _PLACE, member.model, run)


def read_input_spec(run: Path) -> EnsembleSpec | None:
    """The spec that was kept, with paths that start from the run's folder; None when none was given."""
    path = run / _PLACE / "spec.yaml"
    if not path.is_file():
        return None
    spec = load_spec(path)
    return spec.model_copy(update={"members": {name: _moved(member) for name, member in spec.members.items()}})


def _moved(member: MemberSpec) -> MemberSpec:
    checkpoint = checkpoint_of(member)
    if checkpoint is None:
        return member
    field = "weights" if format_of(member.model) is FACTORY else "model"
    return member.model_copy(update={field: f"{_PLACE}/{checkpoint}"})
