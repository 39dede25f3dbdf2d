"""One decision over all alternatives: what is worth serving, by how much over what, and how sure that is.

Every alternative is judged on rows that it was not fitted on: held-out rows, and solving rows out of fold. That more
members are better is only said where it is beyond chance; which to serve, of ensembles, which cost the same, or where
nothing is beyond chance, is a better guess.
"""

# A alternatives, N rows, F numbers a row

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.errors import QuorateError
from quorate.fusion.evaluation.significance import Interval
from quorate.tuning.alternatives.base import Alternative, Fitted, Kind, Outputs, answers_of, recipe_of
from quorate.tuning.alternatives.by_task.moments import moment_alternatives
from quorate.tuning.alternatives.by_task.quantiles import quantile_alternatives
from quorate.tuning.alternatives.by_task.rankings import ranking_alternatives
from quorate.tuning.alternatives.catalogue import alternatives, value_alternatives
from quorate.tuning.alternatives.decided import Decided, label_decisions
from quorate.tuning.alternatives.out_of_sample import OutOfSample, out_of_sample
from quorate.tuning.alternatives.patterns import with_patterns
from quorate.tuning.alternatives.promises.cascade_or_bandit import cheapest_promise
from quorate.tuning.alternatives.promises.cascaded import CASCADE, Cascaded, can_be_cascaded
from quorate.tuning.alternatives.promises.risk import Risk, check_risk
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.alternatives.refitted import refitted
from quorate.tuning.alternatives.reweighing.reweighted import reweighted_of
from quorate.tuning.alternatives.unfitted import Answered, ClassFrequencies, Given, Incumbent, Member, Uniform
from quorate.tuning.errors import PredictionError, TuningError
from quorate.tuning.evaluation.bayesian_bootstrap import bounds
from quorate.tuning.evaluation.evidence import Evidence, Sample
from quorate.tuning.evaluation.metrics.metric import RowMetric
from quorate.tuning.evaluation.metrics.row_metrics import Metric, row_metric
from quorate.tuning.evaluation.metrics.tag_metrics import SPAN_F1
from quorate.tuning.evaluation.price import Price
from quorate.tuning.evaluation.verdict import LEAST_SAID, SAME, Choice, Decision, Proof, Standing

# Four to one is a reason to move to the more elaborate, between ensembles of one cost and where nothing is shown.
_LIKELY = 0.8


@dataclass(frozen=True)
class GivenAnswers:
    """What something answered that is no fusion of the members that are compared.

    Attributes:
        members: how many it asks.
        solving, judging: (N, C) and (J, C), of the same rows.
    """

    name: str
    members: int
    solving: NDArray[np.float32]
    judging: NDArray[np.float32]

    def out_of_sample(self, solve: Outputs, judge: Outputs, metric: RowMetric) -> OutOfSample:
        """As an alternative."""
        solving, judging = metric.numbers(solve, self.solving), metric.numbers(judge, self.judging)
        kind: Kind = "ensemble" if self.members > 1 else "single"
        return OutOfSample(Answered(self.name, kind, self.members), Given(self.judging), solving, judging)


def choose(
    solve: Outputs,
    judge: Outputs,
    *,
    metric: Metric | RowMetric | None = None,
    incumbent: Recipe | Incumbent | None = None,
    given: Sequence[GivenAnswers] = (),
    min_gain: float = 0.0,
    pool: bool = True,
    alike: bool | None = None,
    quorum: int = 1,
    required: Collection[str] = (),
    seed: int = 0,
    price: Price | None = None,
    risk: Risk | None = None,
    refit: bool = True,
    on_step: Callable[[str], None] | None = None,
) -> Choice:
    """Fit every alternative and choose.

    Args:
        solve, judge: rows to fit on and other rows to judge on, which no member was trained on.
        metric: see ``row_metric``, the first of the task when None; or a ``RowMetric``, such as one of tags.
        incumbent: what is served now.
        given: other alternatives, of which there are answers and no more.
        min_gain, pool, seed: as of ``compare``; also the seed of folds.
        alike: whether solving rows are of one kind with judging rows; as ``pool`` when None.
        quorum, required: the fewest members that are ever fused, and those without which nothing is: for which sets of
            members recipes have weights of their own.
        price: what serving an alternative costs: gains are net of it.
        risk: with a loss that is allowed, an ensemble is served as a cascade that is shown to lose no more.
        refit: what is served is fitted again on all rows afterwards, where both halves are of one kind and nothing was
            promised from judging rows; the verdict is that on what was fitted on solving rows.
        on_step: told what happens next.

    Raises:
        DataError: too few rows to make folds of.
        TuningError: no metric of this name, or a risk of rows that no test of it is valid for.
        PredictionError: outputs that are no probabilities.
    """
    say = on_step or (lambda step: None)
    by = _checked_metric(metric, solve, judge)
    check_risk(risk, judge)
    served = Incumbent(incumbent) if isinstance(incumbent, Recipe) else incumbent
    tried = tried_alternatives(solve, by, served)
    found, left_out = out_of_sample(tried, solve, judge, by.numbers, seed, say)
    first = next((n for n, one in enumerate(found) if one.alternative.kind == "ensemble"), len(found))
    found[first:first] = [one.out_of_sample(solve, judge, by) for one in given]
    options: dict[str, Any] = {"min_gain": min_gain, "pool": pool, "left_out": left_out, "seed": seed, "price": price}
    choice = compare(found, solve, judge, by, **options)
    if not by.of_values:
        if risk is not None and risk.max_loss is not None:
            choice = _with_cascade(choice, found, solve, judge, by, risk, options)
        for one in found:
            recipe = with_patterns(one, solve, quorum, required)
            choice = choice if recipe is None else choice.with_recipe(one.alternative.name, recipe)
    if not refit:
        return choice
    limits: dict[str, Any] = {"seed": seed, "priced": price is not None, "quorum": quorum, "required": required}
    return _fitted_again(choice, found, solve, judge, pool if alike is None else alike, risk, limits, say)


def _fitted_again(
    choice: Choice, found: Sequence[OutOfSample], solve: Outputs, judge: Outputs, alike: bool, risk: Risk | None,
    limits: Mapping[str, Any], say: Callable[[str], None],
) -> Choice:  # fmt: skip
    """The choice with what is served of all rows, or why they are not to be fitted on."""
    if risk is not None:
        return choice.as_judged("what answers may lose was tested on judging rows, which they are not to be fitted on")
    if not alike:
        return choice.as_judged("solving rows are not of one kind with judging rows")
    say("fitting again on all rows")
    again = refitted(found, choice.recipes, solve, judge, **limits)
    return replace(choice, refitted=again, refit_rows=len(solve) + len(judge) if again else 0)


def _with_cascade(
    choice: Choice, found: list[OutOfSample], solve: Outputs, judge: Outputs, by: RowMetric, risk: Risk,
    options: dict[str, Any],
) -> Choice:  # fmt: skip
    """The choice with a cascade that loses little against what it recommends, where that is an ensemble.

    Args:
        found: the alternatives; the cascade is added.
        options: of ``compare``.
    """
    by_name = {one.alternative.name: one for one in found}
    gains = {name: choice.alternatives[name].gain.difference for name in by_name}
    pools = [name for name, one in by_name.items() if can_be_cascaded(recipe_of(one.fitted))]
    asks_several = choice.decision in ("ensemble", "undecided")
    if not asks_several or not pools or recipe_of(by_name[choice.recommended].fitted) is None:
        return choice.without(CASCADE, f"{CASCADE}: no ensemble is recommended that it could stand for")
    price, likely = options["price"], [by_name[name] for name in sorted(pools, key=lambda name: gains[name])]
    costs = None if price is None else price.device_ms
    parts = (by_name[choice.recommended], solve, judge, by.numbers, risk)
    try:
        made = cheapest_promise(likely, parts, costs, options["seed"])
    except QuorateError as error:
        return choice.without(CASCADE, str(error))
    found.append(made)
    return compare(found, solve, judge, by, **options)


def _checked_metric(metric: Metric | RowMetric | None, solve: Outputs, judge: Outputs) -> RowMetric:
    by = metric if isinstance(metric, RowMetric) else _metric_of(metric, solve)
    for part in (solve, judge):
        _check_widths(part)
    if by.of_values != solve.of_values:
        found_here = "values" if solve.of_values else "classes"
        raise TuningError("metric", f"{by.name} of {found_here}", "give a metric of what members predict")
    if by.of_tags and (solve.sequences is None or judge.sequences is None):
        fix = "say which rows are the tokens of one sequence: column 'sequence'"
        raise TuningError("metric", f"{by.name} of rows that are no tokens", fix)
    return by


def _metric_of(metric: Metric | None, solve: Outputs) -> RowMetric:
    return row_metric(metric, task=solve.task, levels=solve.levels, moments=solve.moments)


def _check_widths(outputs: Outputs) -> None:
    """Members predict one number for each true value, or a mean and a variance.

    Raises:
        PredictionError: they do not.
    """
    if not outputs.of_values or outputs.levels or outputs.lists:
        return
    wanted = outputs.truth.shape[1] * (2 if outputs.moments else 1)
    if outputs.classes != wanted:
        found = f"members give {outputs.classes} numbers a row, and labels {outputs.truth.shape[1]}"
        fix = f"let members give {wanted}" + ("" if outputs.moments else ", or say rule: mixture_moments of variances")
        raise PredictionError("predictions", found, fix)


def tried_alternatives(solve: Outputs, by: RowMetric, incumbent: Incumbent | None) -> list[Alternative]:
    """What is fitted and judged; the incumbent's rule with other weights is next to it."""
    found = _of_task(solve, by, incumbent)
    reweighted = None if incumbent is None else reweighted_of(incumbent.recipe, by.task, by.name, by.loss)
    if incumbent is not None and reweighted is not None:
        found.insert(found.index(incumbent) + 1, reweighted)
    return found


def _of_task(solve: Outputs, by: RowMetric, incumbent: Incumbent | None) -> list[Alternative]:
    """By what members predict."""
    names = solve.names
    if by.moments:
        return moment_alternatives(names, by.loss, incumbent)
    if by.task == "quantiles":
        return quantile_alternatives(names, incumbent)
    if by.task == "ranking":
        return ranking_alternatives(names, by.top, incumbent)
    if by.task == "multilabel":
        thresholds = label_decisions(names, by.name == "f1_micro") if by.decides else []
        return [*value_alternatives(names, "squared" if by.name == "brier" else "log", incumbent), *thresholds]
    if by.task == "regression":
        absolute = by.name in ("mae", "crps") or by.name.startswith("pinball")
        return value_alternatives(names, "absolute" if absolute else "squared", incumbent, by.level)
    decided = Decided(by.name, by.costs) if by.decides else None
    scheme = by.scheme if by.name == SPAN_F1 else None
    return alternatives(names, incumbent, decided, len(solve), scheme, solve.inputs)


def compare(
    found: Sequence[OutOfSample],
    solve: Outputs,
    judge: Outputs,
    metric: RowMetric,
    *,
    min_gain: float = 0.0,
    pool: bool = True,
    left_out: Mapping[str, str] | None = None,
    seed: int = 0,
    price: Price | None = None,
) -> Choice:
    """Choose among alternatives that are fitted.

    Args:
        found: their answers, the simpler ones first; a floor and a single one are among them.
        solve, judge: the rows that they answered.
        metric: by which.
        min_gain: in the metric's unit; a step to more members has to gain more.
        pool: solving rows out of fold count as evidence like held-out rows. Not where members answered them as they
            do not answer other rows.
        left_out: alternatives that were not tried, and why.
        seed: of the draws.
        price: as of ``choose``.
    """
    costs = None if price is None else [price.cost(recipe_of(one.fitted), one.reached) for one in found]
    prices = None if price is None or costs is None else np.array([price.of(cost) for cost in costs])
    evidence = Evidence(found, solve, judge, metric, pool, seed, prices)
    unbounded = _unbounded(solve, judge) if metric.name == "log_loss" and not metric.of_values else ()
    chosen, decision, single, proof = _decide(evidence, found, min_gain, unbounded)
    names = [one.alternative.name for one in found]
    sample, held, solving = evidence.all, _held_out(evidence.held_out), evidence.solving
    gains = [_reversed(one) for one in sample.intervals(chosen, range(len(found)))]
    recipes = {name: r for name, one in zip(names, found, strict=True) if (r := recipe_of(one.fitted)) is not None}
    standings = {
        name: Standing(
            one.kind, _members(one), *held[number],
            None if solving is None else float(solving.values[number]), gains[number],
            None if costs is None else costs[number],
        )
        for number, (name, one) in enumerate(zip(names, found, strict=True))
    }  # fmt: skip
    return Choice(
        metric.name, metric.unit, names[chosen], decision, names[single], proof, len(judge), len(sample.numbers),
        sample.count, min_gain, standings, recipes, dict(left_out or {}), unbounded,
        "lists" if judge.lists else "rows", next(_cascades(found), None),
    )  # fmt: skip


def compare_answers(
    held_out: Outputs, seen: NDArray[np.int64], pooled: Sequence[str], name: str, fused: NDArray[np.float32]
) -> Choice:
    """What held-out rows alone say, in log-loss, of answers that something made of members.

    Args:
        held_out: what members say of them.
        seen: (N,) labels of other rows, whose frequencies are the floor.
        pooled: members whose uniform mean is compared too.
        name: of what made the answers.
        fused: (J, C) the answers.
    """
    metric, classes = row_metric("log_loss"), held_out.classes
    known = Outputs(held_out.names, np.zeros((len(held_out.names), len(seen), classes), np.float32), seen)
    tried: list[tuple[Alternative, Fitted]] = [(ClassFrequencies(), ClassFrequencies().fit(known, 0))]
    tried += [(Member(member), Recipe("mean", (member,))) for member in held_out.names]
    if len(pooled) > 1:
        tried.append((Uniform(), Recipe("mean", tuple(pooled))))
    tried.append((Answered(name, "ensemble" if len(pooled) > 1 else "single"), Given(fused)))
    none = np.full((len(seen), 1), np.nan)
    found = [
        OutOfSample(one, fitted, none, metric.numbers(held_out, answers_of(fitted, held_out))) for one, fitted in tried
    ]
    return compare(found, known, held_out, metric, pool=False)


def _members(one: OutOfSample) -> int:
    """How many an alternative asks."""
    recipe = recipe_of(one.fitted)
    if recipe is not None:
        return len(recipe.asked)
    return one.alternative.members if isinstance(one.alternative, Answered) else 0


def _decide(
    evidence: Evidence, found: Sequence[OutOfSample], min_gain: float, unbounded: Collection[str]
) -> tuple[int, Decision, int, Proof | None]:
    """The chosen alternative, the decision, the best single one, and what was shown that speaks for it."""
    of_kind: dict[str, list[int]] = {"floor": [], "single": [], "ensemble": []}
    for number, one in enumerate(found):
        if not isinstance(one.alternative, Cascaded):
            of_kind[one.kind].append(number)
    floor, ensembles = of_kind["floor"][0], of_kind["ensemble"]
    # An ensemble that came out as one member is that member once more.
    meant = [number for number in of_kind["single"] if found[number].alternative.kind == "single"]
    singles = _singles(evidence, found, meant, unbounded)
    single = evidence.all.best(singles)
    if evidence.shown([floor], [*singles, *ensembles]) is None:
        return floor, "nothing", single, None
    worthy = evidence.shown([floor], singles)
    shown = evidence.shown([floor] if worthy is None else singles, ensembles, min_gain)
    if shown is not None:
        over = floor if worthy is None else single
        chosen = _simplest_likely(evidence.all, ensembles, over)
        return _cheaper(evidence.all, found, chosen, single), "ensemble", single, shown
    if worthy is None:
        return floor, "nothing", single, None
    # What is served until more rows say more is what did best on these, if likely better on others too.
    guess, least = evidence.all.best([single, *ensembles]), max(min_gain, SAME)
    if guess != single and (evidence.all.gains(single)[1][:, guess] > least).mean() >= _LIKELY:
        return _cheaper(evidence.all, found, guess, single), "undecided", single, worthy
    return single, "single", single, worthy


def _cascades(found: Sequence[OutOfSample]) -> Iterator[Cascaded]:
    return (one.alternative for one in found if isinstance(one.alternative, Cascaded))


def _cheaper(sample: Sample, found: Sequence[OutOfSample], chosen: int, single: int) -> int:
    """The cascade that stands for what was chosen, unless one member alone has done as well."""
    made = [number for number, one in enumerate(found) if isinstance(one.alternative, Cascaded)]
    return made[0] if made and sample.gains(single)[0][made[0]] > SAME else chosen


def _unbounded(solve: Outputs, judge: Outputs) -> tuple[str, ...]:
    """Members that rule classes out: however rarely the truth is among them, that is all that log-loss then counts."""
    least = np.minimum(*(one.probs.min(axis=(1, 2)) for one in (solve, judge)))
    return tuple(name for name, one in zip(solve.names, least, strict=True) if one < LEAST_SAID)


def _singles(
    evidence: Evidence, found: Sequence[OutOfSample], singles: Sequence[int], unbounded: Collection[str]
) -> list[int]:
    """The members as they are, or the calibrated one alone where that is better beyond chance.

    Where the best has no bound, it is the calibrated one or the best of those that have, whichever did better.
    """
    plain = [number for number in singles if not found[number].alternative.fitted]
    changed = [number for number in singles if found[number].alternative.fitted]
    if changed and found[evidence.all.best(plain)].alternative.name in unbounded:
        bounded = [number for number in plain if found[number].alternative.name not in unbounded]
        return [evidence.all.best([*bounded, *changed])]
    return plain if evidence.shown(plain, changed) is None else changed


def _simplest_likely(sample: Sample, numbers: Sequence[int], over: int) -> int:
    """From the simplest that is likely better than ``over`` on, each that is likely better than the one before."""
    chosen = None
    for number in numbers:
        draws = sample.gains(over if chosen is None else chosen)[1][:, number]
        if (draws > SAME).mean() >= _LIKELY:
            chosen = number
    return sample.best(numbers) if chosen is None else chosen


def _held_out(sample: Sample) -> list[tuple[float, float, float]]:
    """Value and 95 % interval of each on the held-out rows, all at once."""
    low, high = bounds(sample.draws, sample.values, sample.count)
    return [
        (float(value), float(min(least, value)), float(max(most, value)))
        for value, least, most in zip(sample.values, low, high, strict=True)
    ]


def _reversed(interval: Interval) -> Interval:
    return Interval(-interval.difference + 0.0, -interval.high + 0.0, -interval.low + 0.0)
