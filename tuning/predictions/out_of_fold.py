"""Predictions for the rows that members were trained on: each row by a model that has not seen it.

The member's network is trained anew on all folds but one and predicts that one (Wolpert 1992, "Stacked
Generalization"; Breiman 1996, "Stacked Regressions"): weights solved on what members say of rows they have seen would
favour those that learned them by heart.
"""

# N rows, C classes

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.control.forked_workers import worker_options
from quorate.deployments.spec.schema import MemberJob
from quorate.tuning.architectures import BUILD
from quorate.tuning.data.folds import Fold, stratified_folds
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.errors import DataError, TuningError, from_ray
from quorate.tuning.predictions.run_member import run_in_process
from quorate.tuning.ray_session import MODULES
from quorate.tuning.training.checkpoint import save_weights
from quorate.tuning.training.epochs import Training
from quorate.tuning.training.train import train


@dataclass(frozen=True)
class OutOfFold:
    """How the folds' models are trained.

    Attributes:
        folds: K; each model learns from (K - 1) / K of the rows, with the same mix of classes.
        training: of each model. A tenth of the rows it may see decides when it stops.
        seed: of the folds.
    """

    folds: int = 5
    training: Training = field(default_factory=Training)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise TuningError("folds", f"{self.folds}", "give at least 2")


def predict_out_of_fold(job: MemberJob, data: Labelled, how: OutOfFold) -> NDArray[np.float32]:
    """(N, C) probabilities of the rows, each by a model trained on the other folds.

    The folds are trained side by side where this process is connected to a Ray cluster, one after another elsewhere.

    Raises:
        TuningError: the member is not of a family that is trained here.
        DataError: a class has fewer rows than there are folds.
    """
    if job.member.model != BUILD:
        fix = f"members of {BUILD} are trained here; for others give rows they were not trained on"
        raise TuningError(f"members.{job.name}.model", job.member.model, fix)
    rarest = int(np.bincount(data.labels, minlength=len(data.classes)).min())
    if rarest < how.folds:
        raise DataError("training rows", f"a class has {rarest} of them", f"give each class at least {how.folds}")
    folds = stratified_folds(data.labels, how.folds, how.seed)
    probs = np.full((len(data), len(data.classes)), np.nan, dtype=np.float32)
    for (_, held_out), part in zip(folds, _predicted(job, data, folds, how), strict=True):
        probs[held_out] = part
    return probs


def _predicted(job: MemberJob, data: Labelled, folds: list[Fold], how: OutOfFold) -> list[NDArray[np.float32]]:
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return [predict_fold(job, data, seen, held_out, how) for seen, held_out in folds]
    resources = {"num_cpus": 1, "num_gpus": job.member.resources.num_gpus}
    task = ray.remote(predict_fold).options(**resources, **worker_options(MODULES))
    rows = ray.put(data)
    try:
        return list(ray.get([task.remote(job, rows, *fold, how) for fold in folds]))
    except ray.exceptions.RayError as error:
        raise from_ray(error, f"members.{job.name}", "see the cluster's logs, correct the member") from error


def predict_fold(
    job: MemberJob, data: Labelled, seen: NDArray[Any], held_out: NDArray[Any], how: OutOfFold
) -> NDArray[np.float32]:
    """(n, C) probabilities of the rows numbered ``held_out``, by a model trained on those numbered ``seen``."""
    from sklearn.model_selection import train_test_split

    rows, stop = train_test_split(seen, test_size=0.1, stratify=data.labels[seen], random_state=how.seed)
    own = Labelled({name: data.inputs[name] for name in job.member.inputs}, data.labels, data.classes)
    trained = train(job.member.config, own.rows(np.sort(rows)), own.rows(np.sort(stop)), how.training)
    with tempfile.TemporaryDirectory(prefix="quorate-fold-") as place:
        digest = save_weights(trained.model, Path(place) / "fold.safetensors")
        member = job.member.model_copy(update={"weights": "fold.safetensors", "digest": digest})
        return run_in_process(job.model_copy(update={"member": member}), Path(place), own.rows(held_out).inputs)
