"""A composite's training on several workers of a Ray cluster, by Ray Train: each takes its share of every batch.

Ray is imported inside functions only, because it reads its token and flags at import.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from quorate.tuning.composite.composite_job import CompositeJob
from quorate.tuning.composite.composite_run import CompositeRun
from quorate.tuning.composite.run_job import job_digest, restore, save
from quorate.tuning.composite.share import Share
from quorate.tuning.errors import TuningError, from_ray
from quorate.tuning.ray_session import held_to
from quorate.tuning.training.checkpoint import load_checkpoint

# A worker that dies is started again, with all others, from the last epoch: so often.
_MOST_FAILURES = 3


def run_on_workers(job: CompositeJob, place: Path, workers: int) -> CompositeRun:
    """Train on the cluster that this process is connected to; the network is that of its best epoch.

    Args:
        place: where Ray Train keeps the states, on storage that all nodes see where there are several; a training
            that was cut off there is taken up.
        workers: how many processes.

    Raises:
        TuningError: it failed, or another training was kept there.
    """
    import ray
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    asked = job_digest(job)
    place.mkdir(parents=True, exist_ok=True)
    trainer = TorchTrainer(
        _train,
        train_loop_config={"job": ray.put(job), "asked": asked},
        scaling_config=ScalingConfig(num_workers=workers, label_selector=held_to(place) or None),  # type: ignore[call-arg]
        run_config=RunConfig(
            name=asked[:12],
            storage_path=str(place.resolve()),
            failure_config=FailureConfig(max_failures=_MOST_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        result = trainer.fit()
    except Exception as error:  # Ray Train's own errors share no base with Ray's
        raise from_ray(error, "training", "see the cluster's logs") from error
    if result.checkpoint is None:
        raise TuningError("training", "no epoch was finished", "see the cluster's logs")
    run = job.start()
    with result.checkpoint.as_directory() as folder:
        _take_up(run, Path(folder), asked)
    run.load_best()
    return run


def _train(config: dict[str, Any]) -> None:
    """What each worker does."""
    import ray
    import ray.train

    context = ray.train.get_context()
    share = Share(context.get_world_rank(), context.get_world_size())
    run = ray.get(config["job"]).start(share)
    kept = ray.train.get_checkpoint()
    if kept is not None:
        with kept.as_directory() as folder:
            _take_up(run, Path(folder), config["asked"])
    while not run.finished:
        epoch = run.step()
        metrics = {"epoch": epoch.number, "validation_loss": epoch.validation_log_loss}
        if share.rank:
            ray.train.report(metrics)
            continue
        with tempfile.TemporaryDirectory() as folder:
            save(run, Path(folder), config["asked"])
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _take_up(run: CompositeRun, folder: Path, asked: str) -> None:
    found = load_checkpoint(folder)
    if found.tensors is None or found.words is None:
        raise TuningError("checkpoint", found.damage or "there is none", "begin anew")
    restore(run, found.tensors, dict(found.words), asked)
