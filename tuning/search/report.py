"""What a sweep's run folder shows: the page, the trials as Parquet, event files for TensorBoard."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from quorate.deployments.atomic_files import writing_whole
from quorate.tuning.evaluation.figures import Evidence, comparison, learning_curves, pareto_front
from quorate.tuning.evaluation.html_report import Rows, choice_rows, write_page
from quorate.tuning.evaluation.row_scores import answers
from quorate.tuning.runs.run_folder import save_report
from quorate.tuning.scoring import true_class
from quorate.tuning.search.journal import Finished
from quorate.tuning.search.pareto import Pick, Picker
from quorate.tuning.search.result import SweepResult
from quorate.tuning.search.structures.latency_check import latency_rows


def save_result(result: SweepResult, picker: Picker, classes: Sequence[str]) -> None:
    """Write report.json, report.html, figures, trials.parquet and the event files.

    Args:
        result: of the sweep.
        picker: has the predictions.
        classes: names.
    """
    save_report(result.to_dict(), result.folder)
    names = picker.names
    good = [trial for trial in result.structures if trial.failure is None]
    with writing_whole(result.folder / "trials.parquet") as fresh:
        parquet.write_table(pa.Table.from_pylist([_row(trial) for trial in result.structures]), fresh)
    trials = [{"number": t.number, "values": t.values, "topology": t.details["structure"]["topology"]} for t in good]
    probs, labels = picker.held_out.rows_of(names), picker.held_out.labels
    fused = picker.held_out.rows_of(result.best.structure.members)
    uniform, tuned = answers([fused.mean(axis=0), result.best.fused], labels)
    columns = true_class(picker.table.rows_of(names), picker.table.labels)
    evidence = Evidence(names, columns, answers(probs, labels), uniform, tuned, labels, picker.best_member, classes)
    histories = {f"{t.params['family']}-{t.number:03d}": t.details.get("history", []) for t in result.members}
    figures = [pareto_front(trials, result.objectives, [pick.number for pick in result.pareto]), *comparison(evidence)]
    if any(histories.values()):
        figures.append(learning_curves(histories))
    single = next(column for column in picker.table.columns if column.name == picker.best_member)
    tables: dict[str, Rows] = {
        "Pareto set": [_pick_row(place, pick) for place, pick in enumerate(result.pareto)],
        "The best on held-out rows": choice_rows(result.best.judgement),
        "What the gain costs": _cost_rows(result.best, picker, single.name),
        "Latency, predicted and measured": latency_rows(result.latency),
        "Trials": _trial_rows(result),
    }
    write_page(result.folder, f"Architecture search: {result.best.spec.name}", result.verdict, tables, figures)
    _write_events(result, good)


def _row(trial: Finished) -> dict[str, Any]:
    return {
        "trial": trial.number,
        **{name: trial.values.get(name) for name in sorted(trial.values)},
        "failure": trial.failure,
        **{f"params.{name}": value for name, value in trial.params.items()},
    }


def _pick_row(place: int, pick: Pick) -> Mapping[str, Any]:
    structure = pick.structure
    return {
        "pick": str(place),
        "topology": structure.topology,
        "rule": structure.rule,
        "members": ", ".join(structure.members),
        **pick.values,
        "held-out log-loss": pick.log_loss,
        "decision": pick.judgement.decision,
    }


def _cost_rows(pick: Pick, picker: Picker, single: str) -> Rows:
    """What the best structure costs beside the best single member, and what a thousandth of a nat costs of it."""
    alone = picker.cost_alone(single)
    judged = pick.judgement
    gain = judged.alternatives[judged.best_single].value - pick.log_loss
    rows = []
    for name, cost in alone.items():
        extra = pick.values[name] - cost
        per = f"{extra / (1000 * gain):.4g}" if gain > 0 else "no gain to pay for"
        rows.append({"": name, single: cost, "best": pick.values[name], "for each 0.001 nats gained": per})
    return rows


def _trial_rows(result: SweepResult) -> Rows:
    return [
        {
            "phase": phase,
            "trials": str(len(trials)),
            "failed": str(sum(trial.failure is not None for trial in trials)),
            "seconds": result.seconds.get(phase, 0.0),
        }
        for phase, trials in (("members", result.members), ("structures", result.structures))
    ]


def _write_events(result: SweepResult, good: Sequence[Finished]) -> None:
    """Event files that TensorBoard reads: each member's learning curve, and the search's objectives by trial."""
    from tensorboardX import SummaryWriter  # type: ignore[import-untyped]

    place = result.folder / "tensorboard"
    shutil.rmtree(place, ignore_errors=True)  # of the same sweep before it was taken up again: curves would be doubled
    for member in result.members:
        with SummaryWriter(str(place / f"{member.params['family']}-{member.number:03d}")) as writer:
            for epoch in member.details.get("history", []):
                for key in ("train_log_loss", "validation_log_loss", "validation_accuracy"):
                    if epoch[key] is not None:
                        writer.add_scalar(key, epoch[key], epoch["number"])
    best = float("inf")
    with SummaryWriter(str(place / "structures")) as writer:
        for trial in good:
            for name, value in trial.values.items():
                writer.add_scalar(name, value, trial.number)
            best = min(best, trial.values[result.objectives[0]])
            writer.add_scalar(f"best_{result.objectives[0]}", best, trial.number)
