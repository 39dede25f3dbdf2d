"""Run a spec in this process, without Ray, and ask it as a server would be asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from quorate.cluster.arguments.input_rows import is_read, wanted_by
from quorate.cluster.arguments.spec import SpecLike, naming_spec_lines, spec_and_folder
from quorate.deployments.client.inputs import as_input, by_name
from quorate.deployments.client.joined_results import joined
from quorate.deployments.client.result import Result
from quorate.deployments.display import Table
from quorate.deployments.errors import RequestError
from quorate.deployments.rows.reading import read_inputs
from quorate.deployments.rows.uneven import runs
from quorate.deployments.spec.digests import pin
from quorate.deployments.spec.suggestions import suggest
from quorate.fusion.extras import require

if TYPE_CHECKING:
    from quorate.deployments.client.inference import Inputs
    from quorate.deployments.rows.column_names import ColumnNames
    from quorate.deployments.server.in_process import InProcess
    from quorate.deployments.spec.ensemble import EnsembleSpec
    from quorate.deployments.wire.inference import InferResponse


@dataclass(frozen=True)
class MemberTry:
    """How a member did.

    Attributes:
        load_s: seconds until it was loaded and warm; ``run_s`` of its forward passes.
        deadline_s: by which a server answers with those that are in; of several answers the first that it is for.
        error: what it failed with, with the lines of its own code that led there; empty for nothing.
    """

    load_s: float
    run_s: float
    deadline_s: float
    error: str


@dataclass(frozen=True, repr=False)
class Tried(Result):
    """An answer, and how each member did.

    Attributes:
        members: by name.
        deadline_s: by which a server answers with those that are in; of several outputs the last.
    """

    members: Mapping[str, MemberTry] = field(default_factory=dict)
    deadline_s: float = 0.0

    def tables(self) -> Sequence[Table]:
        return [*super().tables(), Table(lines=[line for name in self.members for line in self._said(name)])]

    def _said(self, name: str) -> Sequence[str]:
        member = self.members[name]
        late = f", over the deadline of {member.deadline_s:g} s" if member.run_s > member.deadline_s else ""
        lines = [f"{name}: loaded in {member.load_s:.2f} s, ran {1000 * member.run_s:.1f} ms{late}"]
        return [*lines, *(f"  {line}" for line in member.error.splitlines())]


@naming_spec_lines
def try_spec(
    spec: SpecLike,
    rows: str | Path | Inputs,
    *,
    member: str | None = None,
    explain: bool = False,
    outputs: Sequence[str] = (),
    columns: ColumnNames | None = None,
    folder: str | Path | None = None,
) -> Tried:
    """Load all members here and answer rows with the code that would serve them; deadlines do not pass meanwhile.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds.
        rows: a file of rows, arrays by input name, or a DataFrame; see ``query``.
        member: ask this member alone.
        explain: also give each member's output and contribution.
        outputs: those of several that are wanted; all when none are named.
        columns: of inputs that the file or frame calls otherwise; see ``query``.
        folder: what the spec's relative paths start from; that of the file, or the current one, when None.

    Raises:
        SpecError: the spec cannot be served.
        MemberLoadError: a member cannot be loaded, or fails on an example.
        MemberFailedError: there is no answer because a member failed on the rows.
        RequestError: the rows cannot be read, or are not the model's inputs.
    """
    require("serve", "running models")
    found, place = spec_and_folder(spec, folder)
    found, model = pin(found, place), member or found.name
    askable = {n: m for n, m in found.members.items() if set(m.inputs) <= set(found.inputs)}
    if member is not None and member not in askable:
        raise RequestError(f"'{member}' is no member that reads the request alone; {suggest(member, askable)}")
    from quorate.deployments.server.in_process import InProcess

    ensemble = InProcess(found, place)
    inputs = _read(rows, ensemble.inputs(model), columns)
    with ensemble:
        asked: dict[str, Any] = {"explain": True} if explain else {}
        answer = joined([_answer(ensemble.infer(model, part, asked, outputs), found, model) for part in runs(inputs)])
        return Tried(
            answer.outputs, answer.parameters, answer.classes, output_parameters=answer.output_parameters,
            members=_members(ensemble, found), deadline_s=max(_deadlines(found, found.output_names)),
        )  # fmt: skip


def _answer(response: InferResponse, spec: EnsembleSpec, model: str) -> Result:
    several = response.output_parameters if spec.outputs and model == spec.name else {}
    return Result(response.outputs, response.parameters, spec.classes or (), output_parameters=several)


def _read(
    rows: str | Path | Inputs, described: Sequence[Mapping[str, Any]], columns: ColumnNames | None
) -> Mapping[str, Any]:
    if is_read(rows):
        return read_inputs(rows, wanted_by(described), columns)
    if columns:
        raise RequestError("columns are given for arrays by name; name the arrays as the inputs")
    given, known = by_name(cast("Inputs", rows)), {item["name"]: item for item in described}
    for name in given:
        if name not in known:
            raise RequestError(f"'{name}' is no input of the model; it reads {', '.join(known)}")
    return {name: as_input(array, known[name]) for name, array in given.items()}


def _members(ensemble: InProcess, spec: EnsembleSpec) -> dict[str, MemberTry]:
    found = {}
    for name, run in ensemble.members.items():
        answers = [output for output in spec.output_names if name in spec.upstream(output)]
        said = "\n".join(filter(None, (run.error, run.trace)))
        found[name] = MemberTry(run.load_s, run.busy_s, min(_deadlines(spec, answers)), said)
    return found


def _deadlines(spec: EnsembleSpec, outputs: Iterable[str]) -> list[float]:
    return [spec.all_fusions[output].deadline_s for output in outputs]
