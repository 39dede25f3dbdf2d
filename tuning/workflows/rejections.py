"""Thresholds below which alternatives abstain, from the rows that a choice was judged on."""

from __future__ import annotations

from dataclasses import replace

from quorate.fusion.registry import RULES
from quorate.tuning.alternatives.base import Outputs, answers_of
from quorate.tuning.alternatives.rejected import Rejected, fit_rejected
from quorate.tuning.alternatives.risk import Risk
from quorate.tuning.errors import TuningError
from quorate.tuning.evaluation.verdict import Choice


def with_rejections(choice: Choice, judge: Outputs, risk: Risk | None, seed: int = 0) -> Choice:
    """The choice, its recipes with a decision to abstain; as it is where nothing is asked.

    Alternatives of which nothing can be shown, or whose rule decides by itself, keep on answering all rows.

    Args:
        choice: the alternatives.
        judge: rows that thresholds are fitted on, which ``check_risk`` has passed.
        risk: what is asked.
        seed: of the halves that it is checked on.

    Raises:
        TuningError: nothing can be shown of what is recommended.
    """
    if risk is None or risk.max_error is None:
        return choice
    found: dict[str, Rejected] = {}
    for name, recipe in choice.recipes.items():
        if RULES[recipe.rule].decides:
            continue
        made = fit_rejected(answers_of(recipe, judge), judge.labels, risk.max_error, risk.confidence, seed)
        if made is not None:
            found[name] = made
            choice = choice.with_recipe(name, replace(recipe, decision=made.decision))
    if choice.recommended in choice.recipes and choice.recommended not in found:
        shown = f"no threshold of {choice.recommended} is shown to answer with at most {risk.max_error:g} errors"
        said = f"{shown} with probability {risk.confidence:g} on {len(judge)} rows"
        raise TuningError("max_error", said, "give more rows, or allow more errors")
    return replace(choice, rejected=found)
