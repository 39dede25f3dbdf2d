"""Tune an ensemble of taggers: members run once over sentences, alternatives are judged by tokens or by spans."""

# M members, N tokens of all sentences, B sentences of T tokens, C classes

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.tuning.alternatives.base import Outputs, answers_of, joined
from quorate.tuning.alternatives.spec_fusion import incumbent_recipe
from quorate.tuning.data.labelled import Labelled, check_labelled
from quorate.tuning.data.predictions_file import Predictions
from quorate.tuning.errors import TuningError
from quorate.tuning.evaluation.metrics.row_metrics import Metric
from quorate.tuning.predictions.run_member import tunable_members
from quorate.tuning.predictions.run_tagger import all_of_length, of_one_length, run_on_sequences
from quorate.tuning.runs.probe import PROBE_ROWS, save_probe
from quorate.tuning.runs.run_folder import new_run_folder, save_report
from quorate.tuning.scoring import true_class
from quorate.tuning.solvers.simplex import log_loss_gap
from quorate.tuning.workflows.tune_fusion import write_specs
from quorate.tuning.workflows.tune_predictions import Judged, judge
from quorate.tuning.workflows.tune_result import TuneResult


def tune_tokens(
    spec: EnsembleSpec,
    folder: Path,
    tokens: Labelled,
    metric: Metric | None = None,
    costs: ArrayLike | None = None,
    *,
    min_gain: float = 0.0,
    runs: Path | str = "runs",
    on_step: Callable[[str], None] | None = None,
    seed: int = 0,
    refit: bool = True,
) -> TuneResult:
    """Fit every alternative on half of the sentences, judge them on the others, and write the best as a spec.

    Args:
        spec: an ensemble of taggers.
        folder: what the spec's paths start from.
        tokens: labelled ones, inputs (N, ...) each; ``groups`` says which are of one sentence, in their order.
        metric: span_f1, token_accuracy, or one of classification; when None span_f1 where classes say spans, else
            log_loss.
        costs: (C, C) cost of a token's decoded tag, the true tag down; the metric is not read then.
        min_gain, runs, on_step, seed, refit: as of ``tune_fusion``.

    Raises:
        TuningError: members that do not read the request alone, or an input that is no row a token.
        DataError: labels that are no classes, or too few sentences.
        PredictionError, MemberLoadError: a member cannot be run, or fails on most sentences.
    """
    say = on_step or (lambda step: None)
    names, sentences = tunable_members(spec, tokens=True), _sentences(tokens)
    check_labelled("labelled", tokens)
    said = np.empty((len(names), len(tokens), len(spec.classes or ())), dtype=np.float32)
    for member, name in enumerate(names):
        say(f"running {name}")
        said[member] = run_on_sequences(spec.job(name), folder, tokens.inputs, sentences)
    judged = judge(
        Predictions(names, spec.classes or (), said, tokens.labels, weights=tokens.weights, sequences=sentences),
        metric,
        costs,
        incumbent=incumbent_recipe(spec, folder),
        min_gain=min_gain,
        quorum=spec.output_fusion.quorum,
        required=spec.output_fusion.required,
        seed=seed,
        refit=refit,
        on_step=say,
    )
    say("writing the run")
    where = new_run_folder(runs, spec.name)
    written = write_specs(spec, folder, where, judged.choice)
    result = TuneResult(written, where, judged.choice, _gap(judged), {"tokens": judged.left_out}, {}, judged.warnings)
    save_report(result.to_dict(), where)
    _save_probe(result, spec, tokens, sentences, Outputs(names, said, tokens.labels))
    return result


def _sentences(tokens: Labelled) -> NDArray[Any]:
    if tokens.groups is None:
        raise TuningError("data", "tokens of no sentence", "say of which each is: column 'sequence'")
    return tokens.groups


def _gap(judged: Judged) -> float:
    """Of the linear pool, in log-loss."""
    recipe, again = judged.choice.served.get("tuned"), "tuned" in judged.choice.refitted
    seen = joined(judged.solve, judged.judge) if again else judged.solve
    weights = dict.fromkeys(seen.names, 1 / len(seen.names)) if recipe is None else dict(recipe.weights or {})
    return log_loss_gap(true_class(seen.probs, seen.labels), np.array([weights[name] for name in seen.names]))


def _save_probe(
    result: TuneResult, spec: EnsembleSpec, tokens: Labelled, sentences: NDArray[Any], said: Outputs
) -> None:
    """Sentences of the length that most have which all members answered, and what each alternative says of them."""
    usable = np.isfinite(said.probs).all(axis=(0, 2))
    blocks = [block[usable[block].all(axis=1)] for block in of_one_length(sentences, PROBE_ROWS)]
    places = max(blocks, key=len)
    flat = places.ravel()
    some = replace(said.rows(flat), sequences=np.repeat(np.arange(len(places)), places.shape[1]))
    expected = {
        name: answers_of(recipe, some).reshape(*places.shape, -1) for name, recipe in result.choice.served.items()
    }
    if result.choice.recommended not in expected:
        return
    inputs = {name: column[places] for name, column in tokens.inputs.items()}
    if spec.lengths is not None:
        inputs[spec.lengths] = all_of_length(spec.inputs[spec.lengths], places)
    data = Labelled(inputs, np.zeros(len(places), np.int64), tokens.classes)
    save_probe(
        result.folder, result.spec, data, np.arange(len(places)), expected[result.choice.recommended], expected
    )  # fmt: skip
