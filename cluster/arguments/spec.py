"""What may stand for an ensemble's spec in a call, and what its relative paths start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from quorate.deployments.errors import MemberError, SpecError
from quorate.deployments.spec.check_files import check_files
from quorate.deployments.spec.checks.check_fusions import check_learned
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import load_spec, parse_spec
from quorate.deployments.spec.text.key_lines import spec_line
from quorate.fusion.errors import QuorateError

P = ParamSpec("P")
T = TypeVar("T")
SpecLike = str | Path | EnsembleSpec | Mapping[str, Any]


def one_output(spec: EnsembleSpec) -> EnsembleSpec:
    """The spec itself.

    Raises:
        SpecError: it has several outputs. What a search makes of members is judged by one answer: outputs share
            members, and what one of them gains has no common unit with what another loses.
    """
    if spec.outputs:
        found = f"there are several, {', '.join(spec.outputs)}, and gains of one have no common unit with another's"
        raise SpecError("outputs", found, f"search for one: write output: {spec.outputs[0]} in a copy, without others")
    return spec


def spec_and_folder(spec: SpecLike, folder: str | Path | None, untrained: bool = False) -> tuple[EnsembleSpec, Path]:
    """The spec, checked with the files it names, and the folder that these are found from.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds.
        folder: what relative paths start from; that of the spec file, or the current one, when None.
        untrained: learned rules need no state yet.

    Raises:
        SpecError: the first mistake, with its field and its fix.
    """
    if isinstance(spec, str | Path):
        path = Path(spec)
        found, place = load_spec(path), path.parent if folder is None else Path(folder)
    else:
        place = Path("." if folder is None else folder)
        found = spec if isinstance(spec, EnsembleSpec) else parse_spec(spec)
        check_files(found, place)
    if any(isinstance(tensor.example, str) and tensor.datatype != "BYTES" for tensor in found.inputs.values()):
        from quorate.deployments.rows.example import check_examples

        check_examples(found.inputs, place)
    if not untrained:
        check_learned(found)
    return found, place


def naming_spec_lines(operation: Callable[P, T]) -> Callable[P, T]:
    """Of an operation on a spec, its first argument: errors about a field or a member say on which line it stands."""

    @wraps(operation)
    def named(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return operation(*args, **kwargs)
        except QuorateError as error:
            spec, field = args[0] if args else kwargs.get("spec"), _field_of(error)
            if field and isinstance(spec, str | Path):
                error.spec_line = spec_line(Path(spec), field)
            raise

    return named


def _field_of(error: QuorateError) -> str:
    """The field of the spec that an error is about; empty for others."""
    if isinstance(error, SpecError):
        return error.field
    if isinstance(error, MemberError):
        return f"members.{error.member}.model"
    what = str(getattr(error, "what", ""))
    return f"{what}.model" if what.startswith("members.") and what.count(".") == 1 else ""
