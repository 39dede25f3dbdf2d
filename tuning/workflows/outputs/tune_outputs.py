"""Tune an ensemble of several outputs: members run once over all rows, each output is judged by its own labels.

The verdict on an output is the one that tuning it alone would give, by the same halves of its rows. Entry point::

    rows = read_outputs("desk.csv", spec.inputs, classes, {"mood": "mood", "topic": "topic"})
    result = tune_outputs(load_spec("desk.yaml"), Path("."), rows, runs=Path("runs"))
    result.spec, result["mood"].choice.verdict, result.folder
"""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quorate.deployments.display import Displayed, Table
from quorate.deployments.engine.offline_graph import OfflineGraph
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import save_spec
from quorate.deployments.spec.schema import MemberJob
from quorate.tuning.alternatives.base import Outputs, answers_of
from quorate.tuning.alternatives.promises.risk import Risk
from quorate.tuning.alternatives.spec_fusion import with_recipe
from quorate.tuning.alternatives.unfitted import INCUMBENT
from quorate.tuning.data.flat_inputs import flat_inputs
from quorate.tuning.data.halves import halves
from quorate.tuning.data.labelled_outputs import LabelledOutputs
from quorate.tuning.errors import TuningError
from quorate.tuning.evaluation.html_report import choice_rows, write_page
from quorate.tuning.evaluation.metrics.row_metrics import Metric
from quorate.tuning.predictions.filling import FillReport
from quorate.tuning.predictions.run_member import Inputs, Runner, run_in_process
from quorate.tuning.predictions.some_rows import SomeRows
from quorate.tuning.predictions.store import PredictionStore
from quorate.tuning.runs.one_output import alone
from quorate.tuning.runs.probe import PROBE_ROWS, save_output_probes
from quorate.tuning.runs.run_folder import SPEC, new_run_folder, other_spec, save_deployable, save_report
from quorate.tuning.workflows.guarantees import Promised
from quorate.tuning.workflows.question import Question, checked_question
from quorate.tuning.workflows.run_members import HELD_OUT, VALIDATION, Say, of_output, read_members
from quorate.tuning.workflows.tune_fusion import MEMORY_BYTES, JudgedFusion, draw, judge_fusion
from quorate.tuning.workflows.tune_result import TuneResult

# Of the store; where the pages with figures are.
ALL_ROWS, PAGES = "rows", "outputs"


@dataclass(frozen=True)
class Wanted:
    """What is asked of one output; see ``tune_fusion``."""

    metric: Metric | None = None
    costs: ArrayLike | None = None
    min_gain: float = 0.0
    promised: Promised | None = None
    risk: Risk | None = None
    refit: bool = True


@dataclass(frozen=True, repr=False)
class OutputsResult(Displayed):
    """What tuning several outputs gave; ``result["mood"]`` is what it gave for one.

    Attributes:
        spec: the ensemble with what is recommended for each output, deployable from ``folder``; an output for which
            nothing is worth serving stays as it was.
        folder: holds spec.yaml with all it names, spec-OUTPUT=NAME.yaml for every other alternative of an output beside
            what is recommended for the others, spec-incumbent.yaml, report.json, report.html and the predictions.
        outputs: by output; the ``spec`` of each is that of this output alone.
    """

    spec: EnsembleSpec
    folder: Path
    outputs: Mapping[str, TuneResult]

    def __getitem__(self, output: str) -> TuneResult:
        return self.outputs[output]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON would hold it."""
        outputs = {name: result.to_dict() for name, result in self.outputs.items()}
        return {"ensemble": self.spec.name, "outputs": outputs}

    def tables(self) -> Sequence[Table]:
        """The alternatives of each output, and what follows."""
        found = [result.table(title=name) for name, result in self.outputs.items()]
        return [*found, Table(lines=[f"quorate deploy {self.folder / SPEC}"])]


def tune_outputs(
    spec: EnsembleSpec, folder: Path, data: LabelledOutputs, wanted: Mapping[str, Wanted] | None = None, *,
    runs: Path | str = "runs", run: Runner = run_in_process, on_step: Say | None = None, seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
) -> OutputsResult:  # fmt: skip
    """Fit every alternative of each output on half of the rows with its label, judge them on the other half.

    Args:
        spec: an ensemble of several outputs.
        folder: what the spec's paths start from.
        data: rows that no member was trained on.
        wanted: by output; what ``Wanted`` says by itself where one is left out.
        runs, run, on_step, seed, memory_bytes: as of ``tune_fusion``.

    Raises:
        TuningError, DataError, PredictionError, MemberLoadError: as ``tune_fusion``, for any of the outputs.
    """
    say = on_step or (lambda step: None)
    parts = {o: _part(spec, o, data, (wanted or {}).get(o, Wanted()), seed) for o in spec.outputs}
    where = new_run_folder(runs, spec.name)
    store = PredictionStore(where / "predictions")
    filled = store.fill_outputs(spec, folder, data, ALL_ROWS, _announced(run, say))
    judged = {output: _judge(part, store, filled, folder, memory_bytes, seed, say) for output, part in parts.items()}
    say("writing the run")
    written = _write(spec, folder, where, judged)
    results = {o: one.result(alone(written, o), where) for o, one in judged.items()}
    result = OutputsResult(written, where, results)
    save_report(result.to_dict(), where)
    _save_probe(spec, folder, where, data, store, judged)
    say("drawing the report")
    _draw(result, judged)
    return result


@dataclass(frozen=True)
class _Part:
    """One output by itself.

    Attributes:
        spec: of it alone.
        rows: numbers of its rows, by split.
    """

    output: str
    spec: EnsembleSpec
    question: Question
    rows: Mapping[str, NDArray[np.intp]]
    wanted: Wanted = field(repr=False)


def _part(spec: EnsembleSpec, output: str, data: LabelledOutputs, wanted: Wanted, seed: int) -> _Part:
    own = alone(spec, output)
    rows, numbers = data.of(output, own.inputs), data.labels[output].rows
    with _naming(output):
        first, second = halves(rows.labels, rows.groups, rows.times, seed)
        solve, judge = rows.rows(first), rows.rows(second)
        question = checked_question(own, solve, judge, wanted.metric, wanted.costs, wanted.promised, risk=wanted.risk)
    return _Part(output, own, question, {VALIDATION: numbers[first], HELD_OUT: numbers[second]}, wanted)


def _judge(
    part: _Part, store: PredictionStore, filled: FillReport, folder: Path, memory_bytes: int, seed: int, say: Say
) -> JudgedFusion:
    names, question = part.spec.output_fusion.members, part.question
    computed = {name: why for name, why in filled.computed.items() if name in names}
    own = {ALL_ROWS: FillReport(tuple(name for name in filled.kept if name in names), computed)}
    said = SomeRows(store, ALL_ROWS, part.rows)
    with _naming(part.output):
        return judge_fusion(
            part.spec, folder, question,
            lambda: read_members(said, part.spec, own, question.validation, question.held_out, memory_bytes, seed),
            said, min_gain=part.wanted.min_gain, refit=part.wanted.refit, seed=seed, say=of_output(say, part.output),
        )  # fmt: skip


@contextmanager
def _naming(output: str) -> Iterator[None]:
    """Errors about one output begin with its name; those about a member tell where it stands."""
    try:
        yield
    except TuningError as error:
        if error.what.startswith("members."):
            raise
        raise type(error)(f"{output}: {error.what}", error.found, error.fix) from None


def _write(spec: EnsembleSpec, folder: Path, where: Path, judged: Mapping[str, JudgedFusion]) -> EnsembleSpec:
    """Write the recommended spec, every alternative of each output beside it, and the spec that was given."""
    given = save_deployable(spec, folder, where)

    def fused(picks: Mapping[str, str]) -> EnsembleSpec:
        found = given
        for output, name in picks.items():
            recipe = judged[output].choice.served.get(name)
            if recipe is not None:
                decided = judged[output].by.of_labels
                found = with_recipe(found, recipe, where, f"{output}-{name}", decided, output)
        return found

    recommended = {output: one.choice.recommended for output, one in judged.items()}
    for output, one in judged.items():
        for name in one.choice.recipes:
            if name != one.choice.recommended:
                save_spec(fused({**recommended, output: name}), where / other_spec(f"{output}={name}"))
    save_spec(given, where / other_spec(INCUMBENT))
    best = fused(recommended)
    save_spec(best, where / SPEC)
    return best


def _save_probe(
    spec: EnsembleSpec, folder: Path, where: Path, data: LabelledOutputs, store: PredictionStore,
    judged: Mapping[str, JudgedFusion],
) -> None:  # fmt: skip
    """The first rows that all members answered, and what each alternative of each output says of them."""
    answered = np.ones(len(data), dtype=np.bool_)
    members = {output: spec.fusions[output].members for output in spec.outputs}
    for names in members.values():
        for held, outputs in store.chunks(ALL_ROWS, names):
            answered[held] &= np.all([np.isfinite(output).all(axis=1) for output in outputs], axis=0)
    rows = np.flatnonzero(answered)[:PROBE_ROWS]
    if not len(rows):
        return
    inputs, every = {name: data.inputs[name][rows] for name in spec.inputs}, np.arange(len(rows))
    before = OfflineGraph(spec, folder, inputs)
    recommended, others = {}, {}
    for output, names in members.items():
        some = Outputs(
            names, store.take(ALL_ROWS, names, rows), np.zeros(len(rows), np.int64), inputs=flat_inputs(inputs, every)
        )  # fmt: skip
        choice = judged[output].choice
        others[output] = {name: answers_of(recipe, some) for name, recipe in choice.served.items()}
        if INCUMBENT not in others[output]:  # a rule that reads more than what members say
            others[output][INCUMBENT] = before.node(output).aligned
        recommended[output] = others[output].get(choice.recommended, others[output][INCUMBENT])
    save_output_probes(where, spec, inputs, recommended, others)


def _draw(result: OutputsResult, judged: Mapping[str, JudgedFusion]) -> None:
    """A page of all verdicts, and one of each output with its figures."""
    for output, one in result.outputs.items():
        page = result.folder / PAGES / output
        page.mkdir(parents=True, exist_ok=True)
        draw(one, page, judged[output])
    verdict = " ".join(f"{output}: {one.choice.summary}." for output, one in result.outputs.items())
    tables = {f"{output}: alternatives": choice_rows(one.choice) for output, one in result.outputs.items()}
    write_page(result.folder, f"Fusions: {result.spec.name}", verdict, tables, [])


def _announced(run: Runner, say: Callable[[str], None]) -> Runner:
    def announced(job: MemberJob, folder: Path, inputs: Inputs) -> NDArray[np.float32]:
        say(f"running {job.name}")
        return run(job, folder, inputs)

    return announced
