"""Tune an ensemble for decisions: weights and per-class biases for accuracy, balanced accuracy, macro F1 or costs.

Entry point::

    result = tune_decisions(load_spec("digits.yaml"), Path("."), validation, test, metric="f1_macro")
    result.spec, result.gain.verdict, result.folder
"""

# M members, N rows, C classes, K resamples, U different triples of label and two decisions

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quorate.deployments.display import Displayed, Table
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.fusion.calibration.calibration import Calibration
from quorate.fusion.evaluation.significance import Interval
from quorate.tuning.data.folds import stratified_folds
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.data.overlap import check_rows
from quorate.tuning.evaluation.verdict import signed, span
from quorate.tuning.predictions.answered_rows import usable_rows
from quorate.tuning.predictions.run_member import Runner, run_in_process, tunable_members
from quorate.tuning.predictions.store import PredictionStore
from quorate.tuning.runs.probe import save_probe
from quorate.tuning.runs.run_folder import new_run_folder, save_deployable, save_report, with_weights
from quorate.tuning.scoring import Floats
from quorate.tuning.solvers.decisions import Decisions, check_costs, decision_scores, decision_weights
from quorate.tuning.solvers.simplex import simplex_weights

_FOLDS, _RESAMPLES = 5, 2000
Solve = Callable[[NDArray[Any], NDArray[np.int64]], Decisions]


@dataclass(frozen=True)
class DecisionGain:
    """What the held-out rows say of the decisions.

    Attributes:
        metric: accuracy, balanced_accuracy, f1_macro, or cost (per row, less is better).
        best_member: the member with the best score on the validation rows.
        tuned, best, uniform: score of the tuned ensemble, of that member and of the uniform mean.
        over_best, over_uniform: how much better the tuned one is, with 95 % intervals of the paired bootstrap.
    """

    metric: str
    rows: int
    best_member: str
    tuned: float
    best: float
    uniform: float
    over_best: Interval
    over_uniform: Interval

    @property
    def verdict(self) -> str:
        """The decision as a sentence with its reason."""
        best, uniform = (
            f"{signed(gain.difference)} {self.metric} over {other} ({span(gain)})"
            for gain, other in ((self.over_best, self.best_member), (self.over_uniform, "the uniform mean"))
        )
        if self.over_best.low <= 0:
            return f"do not ensemble, serve {self.best_member}: the gain of {best} is not above 0"
        if self.over_uniform.low <= 0:
            return f"ensemble, but the uniform mean will do: {best}, {uniform}"
        return f"ensemble with the tuned decisions: {best}, {uniform}"


@dataclass(frozen=True, repr=False)
class DecisionResult(Displayed):
    """What tuning the decisions gave.

    Attributes:
        spec: with weights and calibration, deployable from ``folder``.
        method: "decisions", or "log-loss" where biases did not do better in cross-validation; then there are none.
        validation: score on the rows that were searched on.
        cross_validated: score of each method on validation rows it was not searched on.
        gain: the comparison on held-out rows.
    """

    spec: EnsembleSpec
    folder: Path
    method: str
    weights: Mapping[str, float]
    calibration: Calibration
    validation: float
    cross_validated: Mapping[str, float]
    gain: DecisionGain

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON would hold it: everything but spec and folder."""
        numbers = {k: v for k, v in asdict(self).items() if k not in ("spec", "folder")}
        return {"ensemble": self.spec.name, **numbers, "verdict": self.gain.verdict}

    def tables(self) -> Sequence[Table]:
        """Best member, uniform mean and tuned decisions on held-out rows, and what follows from it."""
        gain = self.gain
        scores = ((gain.best_member, gain.best), ("uniform mean", gain.uniform), ("tuned", gain.tuned))
        weights = ", ".join(f"{name} {weight:.3f}" for name, weight in self.weights.items())
        biases = "with biases by class" if self.method == "decisions" else "without biases: they did no better"
        lines = [
            f"{gain.rows} held-out rows; {weights}, {biases}",
            gain.verdict,
            f"quorate deploy {self.folder / 'spec.yaml'}",
        ]
        return [Table(("", gain.metric), [(name, f"{score:.4f}") for name, score in scores], lines=lines)]


def tune_decisions(
    spec: EnsembleSpec,
    folder: Path,
    validation: Labelled,
    held_out: Labelled,
    metric: str = "accuracy",
    costs: ArrayLike | None = None,
    *,
    runs: Path | str = "runs",
    store: PredictionStore | None = None,
    run: Runner = run_in_process,
    on_step: Callable[[str], None] | None = None,
    seed: int = 0,
) -> DecisionResult:
    """Search weights and biases, keep them where they do better in cross-validation, and judge.

    Args:
        spec: the ensemble; its fusion may have any rule, the result's is a calibrated weighted mean.
        folder: what the spec's paths start from.
        validation: rows to search on; no member was trained on them.
        held_out: other rows, to judge on.
        metric: accuracy, balanced_accuracy or f1_macro; not read when there are costs.
        costs: (C, C) cost of deciding for the column when the row is true.
        runs, store, run, on_step, seed: as of ``tune_weights``.

    Raises:
        TuningError: members that give no class probabilities, another metric, or costs that do not fit the classes.
        DataError: too few rows, or rows in both sets.
        PredictionError, MemberLoadError: a member cannot be run.
    """
    say = on_step or (lambda step: None)
    names = tunable_members(spec)
    check_rows(validation, held_out)
    table = None if costs is None else check_costs(costs, len(spec.classes or ()))
    where = new_run_folder(runs, spec.name)
    store = store or PredictionStore(where / "predictions")
    usable = {}
    for split, rows in (("validation", validation), ("held-out", held_out)):
        say(f"running members on {split} rows")
        store.fill(spec, folder, rows, split, run=run)
        usable[split] = usable_rows(names, store.read(split, names), rows.labels)
    searched_on, judged_on = usable["validation"], usable["held-out"]
    labelled = (searched_on.probs, searched_on.labels)
    say("searching weights and biases")
    solvers = _solvers(metric, table, seed)
    sign = 1 if table is None else -1
    found = {name: _cross_validated(solve, *labelled, metric, table, seed) for name, solve in solvers.items()}
    # biases fit chance too, so they must do better, not as well
    method = "decisions" if sign * found["decisions"] > sign * found["log-loss"] else "log-loss"
    solved = solvers[method](*labelled)
    weights = dict(zip(names, solved.weights.tolist(), strict=True))
    calibration = solved.calibration.to_spec(spec.classes or ()) if method == "decisions" else None
    written = save_deployable(with_weights(spec, weights, calibration=calibration), folder, where)
    gain = _gain(names, *labelled, judged_on.probs, judged_on.labels, solved, metric, table)
    result = DecisionResult(written, where, method, weights, solved.calibration, solved.score, found, gain)
    save_report(result.to_dict(), where)
    save_probe(where, written, held_out, judged_on.rows, np.asarray(solved.fuse(judged_on.probs)))
    return result


def _solvers(metric: str, costs: Floats | None, seed: int) -> dict[str, Solve]:
    return {
        "log-loss": lambda probs, labels: _without_bias(probs, labels, metric, costs),
        "decisions": lambda probs, labels: decision_weights(probs, labels, metric, costs, seed=seed),
    }


def decision_gain(
    labels: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    metric: str,
    costs: Floats | None = None,
    seed: int = 0,
) -> Interval:
    """How much better the second decisions are than the first, with a 95 % interval of the paired bootstrap.

    Rows with the same label and the same two decisions count alike, so resampling rows is drawing counts of such
    triples from a multinomial: the same distribution, for U numbers a resample instead of N.

    Args:
        labels, first, second: (N,) class indices.
        metric: as of ``decision_weights``; ``costs`` instead, where given.
    """
    triples, counts = np.unique(np.stack([labels, first, second]), axis=1, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(labels), counts / len(labels), size=_RESAMPLES)
    both = np.vstack([counts, drawn]).astype(np.float64)
    before, after = (_scores(both, triples[0], decided, metric, costs) for decided in triples[1:])
    gains = after - before if costs is None else before - after
    low, high = np.quantile(gains[1:], [0.025, 0.975])
    return Interval(float(gains[0]), float(low), float(high))


def decision_score(
    labels: NDArray[np.int64], decided: NDArray[np.int64], metric: str, costs: Floats | None = None
) -> float:
    """The metric of (N,) decisions, or their mean cost."""
    return float(_scores(np.ones((1, len(labels))), labels, decided, metric, costs)[0])


def _scores(
    counts: Floats, labels: NDArray[np.int64], decided: NDArray[np.int64], metric: str, costs: Floats | None
) -> Floats:
    """(K,) score of rows that count (K, U) times."""
    if costs is not None:
        return np.asarray(counts @ costs[labels, decided] / counts.sum(axis=1))
    classes = int(max(labels.max(), decided.max())) + 1
    of_label, of_decided = np.eye(classes)[labels], np.eye(classes)[decided]
    return decision_scores(metric, counts @ (of_label * of_decided), counts @ of_decided, counts @ of_label)


def _cross_validated(
    solve: Solve, probs: NDArray[Any], labels: NDArray[np.int64], metric: str, costs: Floats | None, seed: int
) -> float:
    decided = np.zeros(len(labels), dtype=np.int64)
    for rest, fold in stratified_folds(labels, _FOLDS, seed):
        decided[fold] = solve(probs[:, rest], labels[rest]).fuse(probs[:, fold]).argmax(axis=1)
    return decision_score(labels, decided, metric, costs)


def _without_bias(probs: NDArray[Any], labels: NDArray[np.int64], metric: str, costs: Floats | None) -> Decisions:
    found = Decisions(simplex_weights(probs, labels).values, Calibration((1.0,), (0.0,) * probs.shape[2]), 0.0)
    score = decision_score(labels, found.fuse(probs).argmax(axis=1), metric, costs)
    return Decisions(found.weights, found.calibration, score)


def _gain(
    names: Sequence[str],
    probs: NDArray[Any],
    labels: NDArray[np.int64],
    others: NDArray[Any],
    truth: NDArray[np.int64],
    solved: Decisions,
    metric: str,
    costs: Floats | None,
) -> DecisionGain:
    sign = 1 if costs is None else -1
    scores = [sign * decision_score(labels, one.argmax(axis=1), metric, costs) for one in probs]
    best = int(np.argmax(scores))
    tuned, alone, mean = (
        np.asarray(rows).argmax(axis=1) for rows in (solved.fuse(others), others[best], others.mean(axis=0))
    )
    return DecisionGain(
        metric="cost per row" if costs is not None else metric,
        rows=len(truth),
        best_member=names[best],
        tuned=decision_score(truth, tuned, metric, costs),
        best=decision_score(truth, alone, metric, costs),
        uniform=decision_score(truth, mean, metric, costs),
        over_best=decision_gain(truth, alone, tuned, metric, costs),
        over_uniform=decision_gain(truth, mean, tuned, metric, costs),
    )
