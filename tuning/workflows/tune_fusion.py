"""Tune an ensemble's fusion: members run once, every alternative is fitted and judged, the best is a deployable spec.

Entry point::

    result = tune_fusion(load_spec("digits.yaml"), Path("."), splits.validation, splits.test, runs=Path("runs"))
    result.spec, result.choice.recommended, result.choice.verdict, result.folder
"""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import save_spec
from quorate.fusion.registry import PATTERNS
from quorate.tuning.alternatives.base import Outputs, answers_of, joined
from quorate.tuning.alternatives.by_task.quantiles import quantile_gap
from quorate.tuning.alternatives.by_task.values import value_gap
from quorate.tuning.alternatives.promises.risk import Risk
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.alternatives.spec_fusion import incumbent_recipe, with_recipe
from quorate.tuning.alternatives.unfitted import INCUMBENT, UNIFORM, Incumbent
from quorate.tuning.data.flat_inputs import flat_inputs
from quorate.tuning.data.labelled import Labelled, is_multilabel
from quorate.tuning.data.mapped_arrays import mapped_array
from quorate.tuning.evaluation.choice import choose
from quorate.tuning.evaluation.class_order import misplaced
from quorate.tuning.evaluation.drift_reference import with_reference
from quorate.tuning.evaluation.figures import Evidence, comparison
from quorate.tuning.evaluation.html_report import choice_rows, write_page
from quorate.tuning.evaluation.metrics.metric import RowMetric
from quorate.tuning.evaluation.metrics.row_metrics import Metric
from quorate.tuning.evaluation.outer_interval import outer_interval
from quorate.tuning.evaluation.price import Price
from quorate.tuning.evaluation.row_checks import ONLY_JUDGING, known_by_heart, shifts
from quorate.tuning.evaluation.row_scores import answers
from quorate.tuning.evaluation.verdict import Choice
from quorate.tuning.predictions.out_of_fold import OutOfFold
from quorate.tuning.predictions.run_member import Runner, run_in_process, tunable_members
from quorate.tuning.predictions.some_rows import Predicted
from quorate.tuning.predictions.store import PredictionStore
from quorate.tuning.runs.fitted_before import fitted_before
from quorate.tuning.runs.probe import PROBE_ROWS, save_probe
from quorate.tuning.runs.run_folder import SPEC, new_run_folder, other_spec, save_deployable, save_report
from quorate.tuning.scoring import true_class
from quorate.tuning.solvers.simplex import log_loss_gap, solve_log_loss
from quorate.tuning.workflows.before import Before, Contest
from quorate.tuning.workflows.guarantees import Promised, with_guarantees, with_rejections
from quorate.tuning.workflows.measured_price import Prices
from quorate.tuning.workflows.question import Question, checked_question
from quorate.tuning.workflows.run_members import HELD_OUT, VALIDATION, Answered, run_members
from quorate.tuning.workflows.thinning import with_thinning
from quorate.tuning.workflows.tune_result import More, TuneResult

# Of one split's predictions: what is compared is a sample where there are more.
MEMORY_BYTES = 64 << 20


def tune_fusion(
    spec: EnsembleSpec, folder: Path, validation: Labelled, held_out: Labelled, metric: Metric | None = None,
    costs: ArrayLike | None = None, *,
    min_gain: float = 0.0, runs: Path | str = "runs", store: PredictionStore | None = None,
    run: Runner = run_in_process, on_step: Callable[[str], None] | None = None, seed: int = 0,
    out_of_fold: OutOfFold | None = None, promised: Promised | None = None, memory_bytes: int = MEMORY_BYTES,
    prices: Prices | None = None, contest: Contest | None = None, risk: Risk | None = None, refit: bool = True,
) -> TuneResult:  # fmt: skip
    """Fit every alternative on the validation rows, judge them on the held-out rows, and write the best as a spec.

    Of predictions larger than memory a sample of rows is compared; the linear pool's weights are solved on all.

    Args:
        spec: the ensemble; its fusion may have any rule.
        folder: what the spec's paths start from.
        validation, held_out: rows to fit on, that no member was trained on (but see ``out_of_fold``); others to judge.
        metric: by name, or a callable; see ``row_metric``. log_loss of classes and labels, rmse of values, pinball of
            quantiles, ndcg of rankings when None; not read when there are costs.
        costs: (C, C) cost of deciding for the column when the row is true.
        min_gain: the least gain, in the metric's unit, that is worth asking more members for.
        runs, seed: where the run's folder is made; of folds, samples and draws.
        store: predictions to use and add to; the run's own folder when left out.
        run, on_step: runs one member over rows; told what happens next, for progress.
        out_of_fold: validation rows are those that the members were trained on: each is predicted by models trained on
            the other folds.
        promised: how sure answers are to be; what the spec asks for when None.
        memory_bytes: of predictions of one split that are compared at once.
        prices: what a millisecond of serving counts, in the metric's unit: members are measured then, and gains are net
            of what alternatives cost.
        contest: what is served now, where that is another ensemble than the spec: it is the incumbent then.
        risk: what answers may lose to ask fewer members, or how many of them may be wrong before others abstain.
        refit: what is served is fitted again on all rows once the verdict is there, where nothing forbids it.

    Raises:
        TuningError: members that give neither probabilities nor values, another metric, or costs that do not fit.
        DataError, PredictionError, MemberLoadError: too few rows, or rows in both sets; a member that cannot be run.
    """
    say, here = on_step or (lambda step: None), out_of_fold is None
    tunable_members(spec, values=here, heads=here)
    question = checked_question(spec, validation, held_out, metric, costs, promised, out_of_fold, risk)
    where = contest.where if contest else new_run_folder(runs, spec.name)
    store = store or PredictionStore(where / "predictions")

    def answered() -> Answered:
        return run_members(store, spec, folder, validation, held_out, run, say, out_of_fold, memory_bytes, seed)

    judged = judge_fusion(
        spec, folder, question, answered, store, min_gain=min_gain, seed=seed, prices=prices, contest=contest,
        refit=refit, say=say,
    )  # fmt: skip
    shown = held_out, judged.found.rows[HELD_OUT], HELD_OUT
    return write_run(spec, folder, where, judged, store, shown, contest.before if contest else None, say)


def write_run(
    spec: EnsembleSpec, folder: Path, where: Path, judged: JudgedFusion, store: PredictionStore,
    shown: tuple[Labelled, NDArray[np.intp], str], before: Before | None, say: Callable[[str], None],
) -> TuneResult:  # fmt: skip
    """Write specs, report and probe.

    Args:
        shown: rows of which the first are the probe: those at these numbers, ascending, of this split of the store.
    """
    say("writing the run")
    written = write_specs(spec, folder, where, judged.choice, before, judged.by.of_labels, judged.found)
    result = judged.result(written, where)
    save_report(result.to_dict(), where)
    rows, numbers, split = shown
    if len(numbers):
        _save_probe(result, store, spec.output_fusion.members, rows, numbers[:PROBE_ROWS], before, split)
    say("drawing the report")
    draw(result, where, judged)
    return result


@dataclass(frozen=True)
class JudgedFusion:
    """The decision over a fusion's alternatives, and what it was taken on.

    Attributes:
        by: the metric.
        gap, warnings, more: as of ``TuneResult``.
        was: (N, C) what the ensemble as it was says of the judging rows, where it is another one.
    """

    by: RowMetric
    choice: Choice
    gap: float | None
    found: Answered
    warnings: tuple[str, ...]
    was: NDArray[np.float32] | None
    more: More | None = None

    def result(self, spec: EnsembleSpec, folder: Path) -> TuneResult:
        """With what was written."""
        outer = outer_interval(self.choice, self.found.judge)
        found = self.found
        return TuneResult(
            spec, folder, self.choice, self.gap, found.left_out, found.filled, self.warnings, outer, self.more
        )  # fmt: skip


def judge_fusion(
    spec: EnsembleSpec, folder: Path, question: Question, answered: Callable[[], Answered], store: Predicted, *,
    min_gain: float, seed: int, prices: Prices | None = None, contest: Contest | None = None, refit: bool = True,
    served: Recipe | None = None, say: Callable[[str], None],
) -> JudgedFusion:  # fmt: skip
    """Fit and judge; what is not said here is as in ``tune_fusion``.

    Args:
        answered: runs the members over the rows, or reads what they said.
        store: what they said.
        served: the incumbent, where it is not the spec's fusion.
    """
    by, rows = question.by, (question.validation, question.held_out)
    given: dict[str, Any] = {"metric": by, "min_gain": min_gain, "seed": seed, "risk": question.risk}
    given["refit"] = refit and question.promised is None
    given["incumbent"] = served or incumbent_recipe(spec, folder, by.of_labels)
    found, was = _with_before(answered(), rows, contest, given, say)
    if prices is not None and prices.counted:
        given["price"] = _prices(prices, spec, folder, question, say)
    choice, odd = _chosen(spec, found, given, question, say)
    choice, gap = _linear_pool(choice, by, store, found, rows)
    several = is_multilabel(question.validation)
    choice = with_guarantees(choice, found.solve, found.judge, question.promised, several, **_limits(spec), seed=seed)
    choice = with_rejections(choice, found.judge, question.risk, seed)
    if spec.output_fusion.overload == "thin":
        price = given.get("price") or _prices(prices, spec, folder, question, say)
        choice = with_thinning(choice, spec.output_fusion, found.judge, by, price.device_ms)
    names = misplaced(found.judge, spec.classes or ())
    was_fitted = fitted_before(spec, contest.before.folder if contest and contest.before else folder, rows[1])
    return JudgedFusion(by, choice, gap, found, (*question.warnings, *was_fitted, *names, *odd), was)


def _prices(
    prices: Prices | None, spec: EnsembleSpec, folder: Path, question: Question, say: Callable[[str], None]
) -> Price:
    say("measuring members")
    return (prices or Prices()).measured(spec, folder, question.example or question.held_out.inputs)


def _with_before(
    found: Answered, rows: tuple[Labelled, Labelled], contest: Contest | None, given: dict[str, Any],
    say: Callable[[str], None],
) -> tuple[Answered, NDArray[np.float32] | None]:  # fmt: skip
    """The rows that what is served now answers too, and what it says of the judging ones; both are put in ``given``."""
    given["incumbent"] = Incumbent(given["incumbent"], contest.called if contest else INCUMBENT)
    if contest is None or contest.before is None:
        return found, None
    say("asking the ensemble as it was")
    found, answers = contest.before.beside(found, *rows)
    given["given"] = (answers,)
    return found, answers.judging


def _chosen(
    spec: EnsembleSpec, found: Answered, given: dict[str, Any], question: Question, say: Callable[[str], None]
) -> tuple[Choice, tuple[str, ...]]:
    """The choice, and what is odd about the rows: then members answer solving rows as they do no others."""
    seen = question.out_of_fold
    odd = [] if seen else [*shifts(found.solve, found.judge), *known_by_heart(found.solve, found.judge)]
    alike = not odd and not seen
    pool = alike and not question.solved_before
    choice = choose(found.solve, found.judge, pool=pool, alike=alike, on_step=say, **_limits(spec), **given)
    return choice, (*odd, *([ONLY_JUDGING] * bool(odd)))


def _limits(spec: EnsembleSpec) -> dict[str, Any]:
    """Which sets of members are ever fused."""
    return {"quorum": spec.output_fusion.quorum, "required": spec.output_fusion.required}


def _linear_pool(
    choice: Choice, by: RowMetric, store: Predicted, found: Answered, rows: tuple[Labelled, Labelled]
) -> tuple[Choice, float | None]:
    """The choice, its linear pool solved on all rows where only a sample of them was compared; and the pool's gap."""
    again = "tuned" in choice.refitted
    names, recipe = found.solve.names, choice.served.get("tuned")
    if found.solve.of_values:
        seen = joined(found.solve, found.judge) if again else found.solve
        return choice, None if recipe is None else _gap(seen, recipe.weights or {}, by)
    compared = len(found.solve) + (len(found.judge) if again else 0)
    columns = store.true_class(VALIDATION, names, rows[0].labels, found.rows[VALIDATION])
    if again:
        more = store.true_class(HELD_OUT, names, rows[1].labels, found.rows[HELD_OUT])
        both = mapped_array((len(names), columns.shape[1] + more.shape[1]), columns.dtype)
        columns = np.concatenate([columns, more], axis=1, out=both)
    if recipe is None:
        return choice, log_loss_gap(columns, np.full(len(names), 1 / len(names)))
    if compared < columns.shape[1] and rows[0].weights is None:
        recipe = _solved(recipe, columns)
        choice = choice.with_refit("tuned", recipe) if again else choice.with_recipe("tuned", recipe)
    return choice, log_loss_gap(columns, np.array([*(recipe.weights or {}).values()]))


def _solved(recipe: Recipe, columns: NDArray[np.float32]) -> Recipe:
    """The pool with weights of least log-loss on (M, N) true-class columns."""
    solved = dict(zip(recipe.members, solve_log_loss(columns).tolist(), strict=True))
    asked = {name for name, weight in solved.items() if weight > 0}
    kept = [pattern for pattern in recipe.options.get(PATTERNS, ()) if set(pattern) < asked]
    return replace(recipe, weights=solved, options={PATTERNS: kept} if kept else {})


def _gap(solve: Outputs, weights: Mapping[str, float], by: RowMetric) -> float | None:
    if by.task == "ranking" or by.moments:
        return None
    return quantile_gap(solve, weights, by.name) if solve.levels else value_gap(solve, weights, by.name, by.level)


def write_specs(
    spec: EnsembleSpec, folder: Path, where: Path, choice: Choice, before: Before | None = None, decided: bool = False,
    found: Answered | None = None,
) -> EnsembleSpec:  # fmt: skip
    """Write the recommended spec and every other beside it; the given one where nothing is worth serving.

    Args:
        found: what members said; drift is compared with that.
    """
    given = save_deployable(spec, folder, where)
    if before is not None:
        was = save_deployable(before.spec, before.folder, where)
    specs = {name: with_recipe(given, recipe, where, name, decided) for name, recipe in choice.served.items()}
    if found is not None:
        lacking, judge = found.left_out[HELD_OUT], found.judge
        specs = {
            name: with_reference(one, choice.served[name], judge, where, name, lacking) for name, one in specs.items()
        }
    if before is not None:
        specs[INCUMBENT] = given = was
    for name, one in specs.items():
        save_spec(one, where / (SPEC if name == choice.recommended else other_spec(name)))
    return specs.get(choice.recommended, given)


def _save_probe(
    result: TuneResult, store: PredictionStore, names: tuple[str, ...], held_out: Labelled, rows: NDArray[np.intp],
    before: Before | None, split: str,
) -> None:  # fmt: skip
    choice = result.choice
    probs = store.read_rows(split, names, slice(0, int(rows[-1]) + 1))[:, rows]
    said = Outputs(names, probs, held_out.labels[rows], inputs=flat_inputs(held_out.inputs, rows))
    expected = {name: answers_of(recipe, said) for name, recipe in choice.served.items()}
    if before is not None:
        expected[INCUMBENT] = before.expected(held_out, rows)
    if choice.recommended in expected:
        save_probe(result.folder, result.spec, held_out, rows, expected[choice.recommended], expected)


def draw(result: TuneResult, folder: Path, judged: JudgedFusion) -> None:
    """Write the report, with figures where classes were predicted."""
    choice, solve, judge, was = result.choice, judged.found.solve, judged.found.judge, judged.was
    title, tables = f"Fusion: {result.spec.name}", {"Alternatives": choice_rows(choice)}
    if solve.of_values:
        write_page(folder, title, choice.summary, tables, [])
        return
    single = choice.recipes.get(choice.best_single) or Recipe("mean", judge.names[:1])
    recipe = choice.recipes.get(choice.recommended, single)
    fused = answers_of(recipe, judge) if choice.recommended != INCUMBENT or was is None else was
    pool = choice.recipes.get(UNIFORM, recipe).fuse(judge.names, judge.probs)
    uniform, served = answers([pool, fused], judge.labels)
    best = choice.best_single if choice.best_single in judge.names else single.members[0]
    columns = true_class(solve.probs, solve.labels)
    evidence = Evidence(
        judge.names, columns, answers(judge.probs, judge.labels), uniform, served, judge.labels, best,
        result.spec.classes or (),
    )  # fmt: skip
    write_page(folder, title, choice.summary, tables, comparison(evidence))
