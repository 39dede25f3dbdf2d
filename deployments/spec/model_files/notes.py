"""What a spec's files cost without need: said beside a plan, a deployment or a validation, and refused by none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.model_files.fixed_batch import fixed_batch
from quorate.deployments.spec.model_formats import FACTORY, ONNX, TORCH_EXPORT, format_of, model_path

_FIXES = {
    ONNX.name: "export it with a dynamic first dimension (torch.onnx.export's dynamic_shapes)",
    TORCH_EXPORT.name: "export it with a dynamic first dimension (dynamic_shapes={'x': {0: torch.export.Dim.AUTO}}, "
    "and an example of two rows)",
}


def notes(spec: EnsembleSpec, folder: Path) -> tuple[str, ...]:
    """Sentences about a spec whose files are there, without importing what would run them."""
    return tuple(_notes(spec, folder))


def _notes(spec: EnsembleSpec, folder: Path) -> Iterator[str]:
    yield from _of_stacks(spec)
    for name, member in spec.members.items():
        path, known = model_path(member.model), format_of(member.model).name
        rows = fixed_batch(folder / path) if path is not None and known in _FIXES else None
        if rows is not None:
            each = "a row" if rows == 1 else f"{rows} rows"
            yield (
                f"members.{name}: {path} was exported for {each} at a time, and is run so; to have more of them in a "
                f"batch, {_FIXES[known]}"
            )


def _of_stacks(spec: EnsembleSpec) -> Iterator[str]:
    """Where ``stack: true`` cannot do anything."""
    sharing = {name for names in spec.together for name in names}
    for name, member in spec.members.items():
        if not member.stack:
            continue
        if format_of(member.model) is not FACTORY:
            yield f"members.{name}: stack: true is for networks that factories build; {member.model} runs by itself"
        elif name in spec.apart or (spec.placement == "apart" and name not in sharing):
            yield f"members.{name}: stack: true is for members that share a process; write placement: together"
