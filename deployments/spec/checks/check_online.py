"""Whether there is something that weights learn from, and whether those that were learned can go live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.deployments.spec.schema import EnsembleSchema
from quorate.fusion.registry import RULES

# Weights go live where what they cost is a log-loss; of the others what they would have cost is told.
PUBLISHED = ("classification", "binary")
LEARNED = (*PUBLISHED, "multilabel", "regression")


def check_online(spec: EnsembleSchema) -> None:
    """Raise SpecError where nothing could be learned, or what is learned could not go live."""
    if spec.online.mode == "off":
        return
    if spec.record is None:
        fix = "say where with record: {folder: ...}, or online: off"
        raise SpecError("online", "weights learn from the labels of recorded answers, and nothing is recorded", fix)
    if not spec.record.share:
        fix = "give a share above 0, or online: off"
        raise SpecError("record.share", "0 records no answer that weights could learn from", fix)
    reasons = [why_not(spec.view(name) if spec.outputs else spec) for name in spec.output_names]
    if all(reasons):  # of several outputs those learn that can
        found, fix = next(filter(None, reasons))
        raise SpecError("online", found, fix)


def why_not(spec: EnsembleSchema) -> tuple[str, str] | None:
    """Why weights of a spec's only output do not learn as ``online`` says, and what to do; None where they do."""
    fusion, task = spec.output_fusion, spec.inferred_task
    if fusion.rule == "bandit" and task == "classification":
        return _of_bandit(spec)
    if task not in LEARNED or "features" in RULES[fusion.rule].reads:
        what = f"the rule {fusion.rule}" if task in LEARNED else f"the task {task}"
        return (
            f"weights of {what} are not learned online",
            "use weighted_mean of one of several classes, or online: off",
        )
    if spec.online.mode != "live":
        return None
    if task not in PUBLISHED:
        return f"weights of the task {task} are learned and never published", "use online: shadow"
    if fusion.rule != "weighted_mean":
        fix = "use rule: weighted_mean (all alike where weights are left out), or online: shadow"
        return f"what is learned are weights of a mean, and the rule is {fusion.rule}", fix
    return _of_sets(fusion)


def why_no_bandit_learns(options: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why a bandit with these options cannot learn whom to ask, and what to do; None where it can."""
    if not options.get("explore"):
        fix = "give its options an explore of 0.02, two rows in a hundred that ask everybody (quorate tune --explore)"
        return "a bandit without a share that explores never sees what those say whom it does not ask", fix
    if options.get("max_loss") is None:
        fix = "give its options a max_loss, such as 0.01 (quorate tune --max-loss writes it)"
        return "a bandit that learns keeps a floor of accuracy, and nothing says which", fix
    return None


def _of_bandit(spec: EnsembleSchema) -> tuple[str, str] | None:
    found = why_no_bandit_learns(spec.output_fusion.options)
    if found is not None:
        return found[0], f"{found[1]}, or online: off"
    return _of_sets(spec.output_fusion) if spec.online.mode == "live" else None


def _of_sets(fusion: FusionSpec) -> tuple[str, str] | None:
    if fusion.conformal is None:
        return None
    fix = "leave conformal out, or use online: shadow and promote what was learned after another quorate tune"
    return "thresholds of conformal sets hold for the weights that they were fitted with", fix
