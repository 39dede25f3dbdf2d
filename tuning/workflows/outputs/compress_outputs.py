"""A cheaper ensemble of several outputs: each output's own members, judged by its own labels.

Members that two outputs read stay as they are: in fewer bits, or distilled away, for one they would be others for the
other, and what both lose has no common unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorate.deployments.display import Displayed, Table
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.errors import TuningError
from quorate.tuning.predictions.run_member import Inputs, tunable_members
from quorate.tuning.runs.one_output import alone, shared_nodes
from quorate.tuning.runs.run_folder import SPEC, new_run_folder, save_report
from quorate.tuning.workflows.compress import Compression, compress
from quorate.tuning.workflows.outputs.output_parts import OutputPart, write_parts
from quorate.tuning.workflows.outputs.tune_outputs import PAGES
from quorate.tuning.workflows.run_members import Say, of_output


@dataclass(frozen=True)
class CompressionRows:
    """Labelled rows of one output: the student learns from ``training``, see ``compress``."""

    training: Labelled
    validation: Labelled
    held_out: Labelled


@dataclass(frozen=True, repr=False)
class OutputsCompression(Displayed):
    """What compressing gave; ``result["mood"]`` is what it gave for one output.

    Attributes:
        spec: the ensemble with the pick of each output, deployable from ``folder``.
        outputs: by output, in a folder of its own below ``folder``.
        left: why an output stays as it was, by output.
    """

    spec: EnsembleSpec
    folder: Path
    outputs: Mapping[str, Compression]
    left: Mapping[str, str]

    @property
    def deployable(self) -> Path:
        """The spec file."""
        return self.folder / SPEC

    def __getitem__(self, output: str) -> Compression:
        return self.outputs[output]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON would hold it."""
        outputs = {name: result.to_dict() for name, result in self.outputs.items()}
        return {"ensemble": self.spec.name, "outputs": outputs, "left": dict(self.left)}

    def tables(self) -> Sequence[Table]:
        """The candidates of each output, and what follows."""
        found = [result.table(title=name) for name, result in self.outputs.items()]
        lines = [f"{name} stays as it was: {why}" for name, why in self.left.items()]
        return [*found, Table(lines=[*lines, f"quorate deploy {self.deployable}"])]


def compress_outputs(
    spec: EnsembleSpec, folder: Path, rows: Mapping[str, CompressionRows], shown: Inputs, *, runs: Path | str = "runs",
    on_step: Say | None = None, **options: Any,
) -> OutputsCompression:  # fmt: skip
    """Compress each output whose members no other reads and give class probabilities; others stay as they are.

    Args:
        spec: an ensemble of several outputs.
        folder: what its paths start from.
        rows: by output.
        shown: request inputs of some rows, which ``promote`` asks about.
        runs, on_step: where the run's folder is made; told what happens next.
        options: others of ``compress``.

    Raises:
        TuningError: no output can be compressed.
        ArchitectureError, DataError, PredictionError, MemberLoadError: as ``compress``.
    """
    say = on_step or (lambda step: None)
    left = {output: why for output in spec.outputs if (why := _why_not(spec, output))}
    if len(left) == len(spec.outputs):
        output, why = next(iter(left.items()))
        raise TuningError(f"fusions.{output}", why, "compress outputs of classes whose members no other output reads")
    where = new_run_folder(runs, f"{spec.name}-compressed")
    found = {}
    for output in spec.outputs:
        if output not in left:
            own = rows[output]
            found[output] = compress(
                alone(spec, output), folder, own.training, own.validation, own.held_out, runs=where / PAGES / output,
                called=f"{output}-student", on_step=of_output(say, output), **options,
            )  # fmt: skip
    say("writing the run")
    picks = {output: one.candidates[one.pick] for output, one in found.items()}
    parts = {output: OutputPart(pick.spec, pick.folder) for output, pick in picks.items()}
    written = write_parts(spec, folder, where, parts, shown)
    result = OutputsCompression(written, where, found, left)
    save_report(result.to_dict(), where)
    return result


def _why_not(spec: EnsembleSpec, output: str) -> str:
    """Why an output cannot be compressed; empty where it can."""
    shared = shared_nodes(spec, output)
    for name, other in shared.items():
        return f"output '{other}' reads '{name}' too"
    own = alone(spec, output)
    try:
        tunable_members(own, values=True)
    except TuningError as error:
        return f"{error.what} is {error.found}, and members that read the request alone are compressed"
    odd = next((name for name in own.output_fusion.members if spec.members[name].output == "values"), None)
    return f"members.{odd}.output is values, and members that give classes are compressed" if odd else ""
