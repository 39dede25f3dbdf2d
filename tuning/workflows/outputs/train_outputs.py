"""Train what stands between the members of an ensemble of several outputs: each output's own part by its own labels.

What two outputs read, such as a trunk, stays as it is: trained for one it would be another for the other.
"""

# N rows

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorate.deployments.display import Displayed, Table
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.tuning.composite.trained_part import HEADS, trained_part
from quorate.tuning.errors import TuningError
from quorate.tuning.predictions.run_member import Inputs
from quorate.tuning.runs.one_output import alone, shared_nodes
from quorate.tuning.runs.run_folder import SPEC, new_run_folder, save_report
from quorate.tuning.workflows.outputs.output_parts import OutputPart, write_parts
from quorate.tuning.workflows.outputs.tune_outputs import PAGES, Wanted
from quorate.tuning.workflows.run_members import Say, of_output
from quorate.tuning.workflows.train_composite import TrainingRows, TrainResult, is_network, train_composite

What = str | Sequence[str]


@dataclass(frozen=True, repr=False)
class OutputsTraining(Displayed):
    """What training gave; ``result["mood"]`` is what it gave for one output.

    Attributes:
        spec: the ensemble with what is recommended for each output, deployable from ``folder``.
        outputs: by output, in a folder of its own below ``folder``.
        left: outputs that stay as they were: nothing of them is trained.
    """

    spec: EnsembleSpec
    folder: Path
    outputs: Mapping[str, TrainResult]
    left: tuple[str, ...]

    def __getitem__(self, output: str) -> TrainResult:
        return self.outputs[output]

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        outputs = {name: result.to_dict() for name, result in self.outputs.items()}
        return {"ensemble": self.spec.name, "outputs": outputs, "left": list(self.left)}

    def tables(self) -> Sequence[Table]:
        """The training of each output, and what follows."""
        found = [table for name, result in self.outputs.items() for table in _titled(name, result)]
        lines = [f"{name} stays as it was: nothing of it is trained" for name in self.left]
        return [*found, Table(lines=[*lines, f"quorate deploy {self.folder / SPEC}"])]


def train_outputs(
    spec: EnsembleSpec, folder: Path, rows: Mapping[str, TrainingRows], shown: Inputs, *, what: What = HEADS,
    wanted: Mapping[str, Wanted] | None = None, teachers: Mapping[str, tuple[EnsembleSpec, Path]] | None = None,
    runs: Path | str = "runs", on_step: Say | None = None, **options: Any,
) -> OutputsTraining:  # fmt: skip
    """Train the part of each output that no other reads, and judge it, as ``train_composite`` does.

    Args:
        spec: an ensemble of several outputs.
        folder: what its paths start from.
        rows: by output.
        shown: request inputs of some rows, which ``promote`` asks about.
        what: as of ``train_composite``; names may be of any output.
        wanted: metric and least gain, by output.
        teachers: by output, an ensemble whose answers are learned too.
        runs, on_step: where the run's folder is made; told what happens next.
        options: others of ``train_composite``.

    Raises:
        TuningError, DataError: as ``train_composite``, for any of the outputs; or what is to be trained is read by two.
    """
    say = on_step or (lambda step: None)
    specs = {output: alone(spec, output) for output in spec.outputs}
    trained = {output: _part(spec, output, own, what, folder) for output, own in specs.items()}
    _check_named(spec, what, specs)
    named = {output: part for output, part in trained.items() if part is not None}
    if not named:
        raise TuningError("what", f"'{what}' names nothing that is trained", "name members or fusions of an output")
    where = new_run_folder(runs, spec.name)
    found = {}
    for output, part in named.items():
        asked, teacher = (wanted or {}).get(output, Wanted()), (teachers or {}).get(output)
        found[output] = train_composite(
            specs[output], folder, rows[output], what=part, teacher=teacher, metric=asked.metric,
            min_gain=asked.min_gain, runs=where / PAGES / output,
            on_step=of_output(say, output), **options,
        )  # fmt: skip
    say("writing the run")
    parts = {output: OutputPart(one.spec, one.folder) for output, one in found.items()}
    written = write_parts(spec, folder, where, parts, shown)
    result = OutputsTraining(written, where, found, tuple(output for output in spec.outputs if output not in found))
    save_report(result.to_dict(), where)
    return result


def _part(spec: EnsembleSpec, output: str, own: EnsembleSpec, what: What, folder: Path) -> What | None:
    """What is trained of one output; None for nothing.

    Raises:
        TuningError: another output reads it.
    """
    nodes = {*own.members, *own.all_fusions}
    asked: What = what if isinstance(what, str) else [name for name in what if name in nodes]
    if not asked:
        return None
    try:
        part = trained_part(own, asked, lambda name: is_network(own, name, folder))
    except TuningError as error:
        if error.what == "what" and isinstance(what, str):
            return None
        raise
    shared = shared_nodes(spec, output)
    for name in part.trained:
        if name in shared:
            field = f"members.{name}" if name in spec.members else spec.field_of(name)
            found = f"outputs '{output}' and '{shared[name]}' read it, and trained for one it would be another"
            raise TuningError(field, found, "name what only one of them reads: what=[...], --what NAME")
    return asked


def _check_named(spec: EnsembleSpec, what: What, specs: Mapping[str, EnsembleSpec]) -> None:
    known = frozenset[str]().union(*({*own.members, *own.all_fusions} for own in specs.values()))
    unknown = [] if isinstance(what, str) else [name for name in what if name not in known]
    if unknown:
        raise TuningError("what", f"{', '.join(unknown)}", f"name members or fusions: {', '.join(sorted(known))}")


def _titled(output: str, result: TrainResult) -> Sequence[Table]:
    said, *more = result.tables()
    line = Table(title=output, lines=said.lines[:1])
    return [line] if result.tuned is None or not more else [line, result.tuned.table()]
