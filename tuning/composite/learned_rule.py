"""The answer's learned rule, fitted on what its members say of rows that they were not trained on."""

# M members, N rows, C classes, D numbers of a request input

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.fusion.errors import FusionError
from quorate.fusion.learned.base import LearnedRule
from quorate.fusion.learned.dynamic_selection import fit_dynamic_selection
from quorate.fusion.learned.gate import fit_gate
from quorate.fusion.learned.meta_des import fit_meta_des
from quorate.fusion.learned.output_attention import fit_output_attention
from quorate.fusion.learned.stacking import fit_stacking
from quorate.fusion.training import Training
from quorate.tuning.composite.composite_job import CompositeJob
from quorate.tuning.composite.composite_run import CompositeRun
from quorate.tuning.composite.network import Given
from quorate.tuning.data.flat_inputs import flat_input
from quorate.tuning.data.folds import folds_of
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.errors import TuningError

_FITS: dict[str, Callable[..., LearnedRule]] = {
    "stacking": fit_stacking,
    "output_attention": fit_output_attention,
    "gate": fit_gate,
    "dynamic_selection": fit_dynamic_selection,
    "meta_des": fit_meta_des,
}
# They draw nothing, and there is nothing to regularise.
_UNTRAINED = ("dynamic_selection", "meta_des")


def out_of_fold_outputs(
    job: CompositeJob, data: Labelled, folds: int, train: Callable[[CompositeJob, str], CompositeRun]
) -> list[Given]:
    """What each member of the answer says of the training rows, by a composite that has not seen them.

    Wolpert 1992, "Stacked Generalization": a rule fitted on rows that members have seen would trust those that learned
    them by heart.

    Args:
        data: the training rows, as ``job.rows`` has them.
        folds: K; each composite learns from (K - 1) / K of the rows.
        train: runs a job to its end; told which one it is.
    """
    parts = folds_of(data.labels, data.groups, None, folds, job.training.seed)
    found: list[list[Given]] = []
    for number, (rest, _) in enumerate(parts):
        run = train(replace(job, rows=job.rows.rows(torch.from_numpy(rest))), f"fold {number + 1} of {len(parts)}")
        found.append(run.outputs(job.rows.rows(torch.from_numpy(parts[number][1]))))
    order = torch.cat([torch.from_numpy(fold) for _, fold in parts]).argsort()
    return [
        (torch.cat([values for values, _ in member])[order], torch.cat([there for _, there in member])[order])
        for member in zip(*found, strict=True)
    ]


def fit_rule(fusion: FusionSpec, outputs: Sequence[Given], data: Labelled, dropout: float, seed: int) -> LearnedRule:
    """Fit it.

    Args:
        fusion: the answer's; its options are the rule's.
        outputs: (N, C) probabilities and (N,) who is there, by member.
        dropout: chance that a member is left out of a row.

    Raises:
        TuningError: the rule is none that is fitted so, or cannot be fitted on these rows.
    """
    if fusion.rule not in _FITS:
        raise TuningError("fusion.rule", f"'{fusion.rule}'", f"train {', '.join(_FITS)}")
    options: dict[str, Any] = dict(fusion.options)
    if fusion.rule not in _UNTRAINED:
        options["training"] = Training(seed=seed, member_dropout=dropout)
    probs, present = (torch.stack(parts) for parts in zip(*outputs, strict=True))
    read = [_inputs(data, options["input_name"])] if "input_name" in options else []
    try:
        return _FITS[fusion.rule](fusion.members, *read, probs, torch.from_numpy(data.labels), present, **options)
    except (FusionError, TypeError) as error:
        raise TuningError("fusion", str(error), "correct the fusion's options") from None


def _inputs(data: Labelled, name: str) -> Tensor:
    """(N, D) of a request input."""
    return torch.from_numpy(flat_input(data.inputs[name]))


def fold_folder(place: Path, title: str) -> Path:
    """Where one of several trainings is written down."""
    return place / title.replace(" ", "-")
