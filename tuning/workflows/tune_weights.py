"""Tune the weights of an ensemble: members run once, weights are solved, the outcome is a spec and an honest report.

Entry point::

    result = tune_weights(load_spec("digits.yaml"), Path("."), splits.validation, splits.test, runs=Path("runs"))
    result.spec, result.weights, result.gap, result.judgement.verdict, result.folder
"""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.display import Displayed, Table
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.schema import MemberJob
from quorate.tuning.data.folds import stratified_folds
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.data.overlap import check_rows
from quorate.tuning.evaluation.figures import Evidence, comparison
from quorate.tuning.evaluation.html_report import gain_rows, judgement_rows, write_page
from quorate.tuning.evaluation.row_scores import gather, mixture
from quorate.tuning.evaluation.verdict import Judgement, equal_shares, judge_answers
from quorate.tuning.predictions.out_of_fold import OutOfFold
from quorate.tuning.predictions.run_member import Inputs, Runner, run_in_process, tunable_members
from quorate.tuning.predictions.store import FillReport, PredictionStore
from quorate.tuning.runs.probe import PROBE_ROWS, save_probe
from quorate.tuning.runs.run_folder import new_run_folder, save_deployable, save_report, with_weights
from quorate.tuning.scoring import Floats, alone, true_class
from quorate.tuning.solvers.bagging import bagged_weights
from quorate.tuning.solvers.greedy import greedy_weights
from quorate.tuning.solvers.patterns import worthwhile_patterns
from quorate.tuning.solvers.simplex import log_loss_gap, simplex_weights
from quorate.tuning.solvers.weights import Weights

_FOLDS = 5
SOLVERS: dict[str, Callable[[NDArray[Any], NDArray[np.int64]], Weights]] = {
    "simplex": simplex_weights,
    "greedy": greedy_weights,
    "bagged": lambda probs, labels: bagged_weights(probs, labels).weights,
}


@dataclass(frozen=True, repr=False)
class TuneResult(Displayed):
    """What tuning the weights gave.

    Attributes:
        spec: a frozen copy of the ensemble with the weights, deployable from ``folder``.
        folder: holds spec.yaml with all it names, report.json, report.html and the predictions.
        weights: of each member.
        patterns: weights for when exactly these members answered, where they serve held-out folds better than the
            weights rescaled.
        method: simplex, or greedy or bagged where cross-validation says that they are better beyond chance.
        validation_log_loss: of the weights on the rows they were solved on, nats per row.
        gap: no weights have a validation log-loss lower by more than this.
        cross_validated: log-loss of each method on validation rows its weights were not solved on.
        judgement: the comparison on held-out rows.
        rows_left_out: rows on which some member failed, by split.
        filled: which predictions were there and which were computed, by split.
    """

    spec: EnsembleSpec
    folder: Path
    weights: Mapping[str, float]
    patterns: tuple[Mapping[str, float], ...]
    method: str
    validation_log_loss: float
    gap: float
    cross_validated: Mapping[str, float]
    judgement: Judgement
    rows_left_out: Mapping[str, int]
    filled: Mapping[str, FillReport]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON would hold it: everything but spec and folder."""
        numbers = {k: v for k, v in asdict(self).items() if k not in ("spec", "folder")}
        return {"ensemble": self.spec.name, **numbers, "verdict": self.judgement.verdict}

    def tables(self) -> Sequence[Table]:
        """Members, uniform mean and tuned weights on held-out rows, and what follows from it."""
        judgement = self.judgement
        scores = {**judgement.members, "uniform mean": judgement.uniform, "tuned": judgement.tuned}
        rows = [
            (
                name,
                f"{self.weights[name]:.3f}" if name in self.weights else "",
                *(f"{value:.4f}" for value in (score.accuracy, score.f1_macro, score.log_loss)),
            )
            for name, score in scores.items()
        ]
        lines = [
            f"{judgement.rows} held-out rows; weights by {self.method}, at most {self.gap:.1e} nats from the best",
            f"weights of their own for {len(self.patterns)} sets of members that may be left when others are missing",
            judgement.verdict,
            f"quorate deploy {self.folder / 'spec.yaml'}",
        ]
        return [Table(("", "weight", "accuracy", "macro F1", "log-loss"), rows, lines=lines)]


def tune_weights(
    spec: EnsembleSpec, folder: Path, validation: Labelled, held_out: Labelled, *,
    runs: Path | str = "runs", store: PredictionStore | None = None, run: Runner = run_in_process,
    on_step: Callable[[str], None] | None = None, seed: int = 0, out_of_fold: OutOfFold | None = None,
) -> TuneResult:  # fmt: skip
    """Solve the weights of the ensemble's fusion for log-loss.

    Predictions may be larger than memory: they are gone through partition by partition, and what is held of them are
    three numbers for each member and row, whatever the number of classes.

    Args:
        spec: the ensemble; its fusion may have any rule, the result's is a weighted mean.
        folder: what the spec's paths start from.
        validation: rows to solve on. No member may have been trained on them, unless ``out_of_fold`` says how to train
            them anew on folds of these rows.
        held_out: other rows, to judge on.
        runs: where the run's folder is made.
        store: predictions to use and add to; the run's own folder when left out.
        run: runs one member over rows.
        on_step: told what happens next, for progress.
        seed: of the cross-validation's folds.
        out_of_fold: validation rows are those that the members were trained on; each is predicted by models trained on
            the other folds, and the weights found are for the members as they are.

    Raises:
        TuningError: the ensemble has members that give no class probabilities.
        DataError: too few rows, or rows in both sets.
        PredictionError, MemberLoadError: a member cannot be run, or fails on most rows.
    """
    say = on_step or (lambda step: None)
    names = tunable_members(spec)
    check_rows(validation, held_out)
    where = new_run_folder(runs, spec.name)
    store = store or PredictionStore(where / "predictions")
    filled = _fill(store, spec, folder, {"validation": validation, "held-out": held_out}, run, say, out_of_fold)
    say("solving weights")
    columns = gather(store, "validation", names, validation.labels).members.right
    method, solved, cross_validated = choose_weights(*alone(columns), seed)
    best = names[int(np.log(columns).mean(axis=1).argmax())]
    say("judging on held-out rows")
    judged_on = gather(store, "held-out", names, held_out.labels, [solved.values, equal_shares(len(names))])
    tuned_rows, uniform_rows = judged_on.mixtures
    evidence = Evidence(
        names, columns, judged_on.members, uniform_rows, tuned_rows, judged_on.labels, best, spec.classes or ()
    )
    judgement = judge_answers(names, evidence.members, evidence.labels, evidence.tuned, evidence.uniform, best)
    weights = {name: float(value) for name, value in zip(names, solved.values, strict=True)}
    patterns = _patterns(spec, names, columns, solved.values, seed)
    tuned = save_deployable(with_weights(spec, weights, patterns), folder, where)
    gap = log_loss_gap(columns, solved.values)
    left_out = {"validation": len(validation) - columns.shape[1], "held-out": len(held_out) - len(judged_on.rows)}
    result = TuneResult(
        tuned, where, weights, patterns, method, solved.score, gap, cross_validated, judgement, left_out, filled
    )
    save_report(result.to_dict(), where)
    say("drawing the report")
    _save_probe(result, store, held_out, judged_on.rows[:PROBE_ROWS], solved.values)
    _draw(result, evidence)
    return result


def _fill(
    store: PredictionStore, spec: EnsembleSpec, folder: Path, splits: Mapping[str, Labelled],
    run: Runner, say: Callable[[str], None], out_of_fold: OutOfFold | None,
) -> dict[str, FillReport]:  # fmt: skip
    """Predictions of the splits; those of validation rows out of fold where told so."""
    if out_of_fold:
        say(f"training {len(tunable_members(spec))} members on {out_of_fold.folds} folds")
    return {
        split: store.fill(
            spec, folder, rows, split, _announced(run, split, say), out_of_fold if split == "validation" else None
        )
        for split, rows in splits.items()
    }


def _save_probe(
    result: TuneResult, store: PredictionStore, held_out: Labelled, rows: NDArray[np.intp], weights: Floats
) -> None:
    names = tunable_members(result.spec)
    probs = store.read_rows("held-out", names, slice(0, int(rows[-1]) + 1))
    save_probe(result.folder, result.spec, held_out, rows, mixture(weights, probs[:, rows]))


def _draw(result: TuneResult, evidence: Evidence) -> None:
    tables = {"On held-out rows": judgement_rows(result.judgement), "Gain": gain_rows(result.judgement)}
    write_page(result.folder, f"Weights: {result.spec.name}", result.judgement.verdict, tables, comparison(evidence))


def choose_weights(
    probs: NDArray[Any], labels: NDArray[np.int64], seed: int = 0
) -> tuple[str, Weights, dict[str, float]]:
    """The method to trust, its weights on all rows, and every method's cross-validated log-loss.

    The solved weights carry a proof, so another method has to beat them in cross-validation by more than twice the
    standard error of the rows' differences; otherwise a few hard rows would decide.

    Args:
        probs: (M, N, C).
        labels: (N,).
        seed: of the folds.
    """
    losses = {name: held_out_losses(solve, probs, labels, seed) for name, solve in SOLVERS.items()}
    means = {name: float(rows.mean()) for name, rows in losses.items()}
    method = min(means, key=lambda name: means[name])
    gains = losses["simplex"] - losses[method]
    if gains.mean() <= 2 * gains.std() / np.sqrt(len(gains)):
        method = "simplex"
    return method, SOLVERS[method](probs, labels), means


def held_out_losses(
    solve: Callable[[NDArray[Any], NDArray[np.int64]], Weights],
    probs: NDArray[Any],
    labels: NDArray[np.int64],
    seed: int = 0,
) -> NDArray[np.float64]:
    """(N,) log-loss of each row under weights solved on the other folds.

    Args:
        solve: (M, N, C) and labels (N,) -> weights.
        probs: (M, N, C).
        labels: (N,).
        seed: of the folds.
    """
    losses = np.empty(len(labels))
    for rest, fold in stratified_folds(labels, _FOLDS, seed):
        weights = solve(probs[:, rest], labels[rest]).values
        losses[fold] = -np.log(weights @ true_class(probs[:, fold], labels[fold]))
    return losses


def _patterns(
    spec: EnsembleSpec,
    names: tuple[str, ...],
    columns: Floats,
    weights: Floats,
    seed: int,
) -> tuple[Mapping[str, float], ...]:
    fusion = spec.output_fusion
    required = [names.index(name) for name in fusion.required]
    found = worthwhile_patterns(*alone(columns), weights, fusion.quorum, required, seed)
    return tuple(
        {names[member]: float(value) for member, value in zip(one.present, one.solved.values, strict=True)}
        for one in found
    )


def _announced(run: Runner, split: str, say: Callable[[str], None]) -> Runner:
    def announced(job: MemberJob, folder: Path, inputs: Inputs) -> NDArray[np.float32]:
        say(f"running {job.name} on {split} rows")
        return run(job, folder, inputs)

    return announced
