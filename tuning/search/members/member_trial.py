"""A member's trial: trained epoch by epoch on one worker, written down after each, then run over the other rows."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save

from quorate.deployments.atomic_files import storage_failed, write_whole
from quorate.deployments.spec.digests import file_digest
from quorate.deployments.spec.schema import MemberJob
from quorate.fusion.errors import QuorateError
from quorate.tuning.architectures import HEAD, TREES
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.predictions.run_member import run_in_process
from quorate.tuning.search.asha import best_by
from quorate.tuning.training.checkpoint import drop_checkpoints, load_checkpoint, save_checkpoint, save_weights
from quorate.tuning.training.epochs import Training
from quorate.tuning.training.pace import epochs_within
from quorate.tuning.training.training_run import TrainingRun
from quorate.tuning.training.tree_run import GrownTrees, TreeRun, TreeTraining


class MemberTrial:
    """One step is one epoch; the last one also predicts (``worker_pool.Trial``). A failure's reason is its outcome."""

    def __init__(self, config: Mapping[str, Any], data: Mapping[str, Labelled]):
        self._data = data
        torch.set_num_threads(max(1, int(config["threads"])))
        self._folder = Path(config["folder"])
        self._place = self._folder / "trials" / config["phase"] / f"{config['number']:05d}"
        self._job = MemberJob.model_validate_json(config["job"])
        self._cutoffs = {int(rung): loss for rung, loss in config["cutoffs"].items()}
        self._how: dict[str, Any] = dict(config["training"])
        self._start_from = config.get("start")
        self._until = time.monotonic() + config.get("left_s", math.inf)
        self._run: TrainingRun | TreeRun | None = None
        self._said: list[str] = []

    def step(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        try:
            return self._step()
        except QuorateError as error:
            return self._failed(str(error))
        except Exception as error:
            if storage_failed(error):
                return {}, {"storage": str(getattr(error, "strerror", error))}
            return self._failed(f"{type(error).__name__}: {error}")

    def _step(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        run = self._run = self._run or self._start()
        if not run.finished:
            epoch = run.step()
            tensors, words = run.state()
            save_checkpoint(self._place, epoch.number, tensors, {**words, "epochs": self._how["epochs"]})
        behind = self._behind(run)
        if run.finished or behind or time.monotonic() >= self._until:
            return {}, self._finish(run, behind)
        return {"epoch": epoch.number, "log_loss": epoch.validation_log_loss}, None

    def _start(self) -> TrainingRun | TreeRun:
        found = load_checkpoint(self._place)
        if found.damage:
            self._said.append(f"{found.damage}: trained again from {'an older one' if found.tensors else 'the start'}")
        known = found.words is not None and found.tensors is not None
        run = self._trees() if self._job.member.model == TREES else self._network(found.words if known else None)
        if found.tensors is not None and found.words is not None:
            run.restore(found.tensors, found.words)
        return run

    def _trees(self) -> TreeRun:
        inputs = self._job.member.inputs
        train, stopping = (_side_by_side(self._data[split], inputs) for split in ("train", "stopping"))
        return TreeRun(train, stopping, TreeTraining(**self._how))

    def _network(self, begun: Mapping[str, Any] | None) -> TrainingRun:
        """A training whose rate falls to nothing when its time is up, as planned when it began."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        config, inputs = self._job.member.config, self._job.member.inputs
        if self._job.member.model == HEAD:
            words = {name: value for name, value in config.items() if name != "features"}
            config = {"family": "mlp", "image": [1, 1, config["features"]], **words}
        train, stopping = (_side_by_side(self._data[split], inputs) for split in ("train", "stopping"))
        how = Training(**self._how, device=device)
        if begun is not None:
            how = replace(how, epochs=int(begun.get("epochs", how.epochs)))
        elif math.isfinite(self._until):
            how = replace(how, epochs=epochs_within(self._until - time.monotonic(), config, train, how))
        self._how["epochs"] = how.epochs
        start = load_file(self._folder / self._start_from) if self._start_from else None
        return TrainingRun(config, train, stopping, how, start=start)

    def _behind(self, run: TrainingRun | TreeRun) -> bool:
        """Whether the training has just reached a rung with a loss that most others bettered."""
        cutoff = self._cutoffs.get(len(run.history))
        history = [asdict(epoch) for epoch in run.history]
        return cutoff is not None and best_by(history, len(history)) > cutoff

    def _finish(self, run: TrainingRun | TreeRun, behind: bool) -> dict[str, Any]:
        trained = run.result()
        weights = self._folder / str(self._job.member.weights)
        digest = save_weights(trained.model, weights)
        changed: dict[str, Any] = {"digest": digest}
        if isinstance(trained, GrownTrees):
            changed["config"] = dict(trained.config)
        job = self._job.model_copy(update={"member": self._job.member.model_copy(update=changed)})
        predictions = {
            split: torch.from_numpy(run_in_process(job, self._folder, self._data[split].inputs))
            for split in ("validation", "held-out")
        }
        write_whole(self._place / "predictions.safetensors", save(predictions))
        drop_checkpoints(self._place)
        return {
            "member": job.member.model_dump(mode="json", exclude_defaults=True),
            "predictions": file_digest(self._place / "predictions.safetensors"),
            "history": [_finite(asdict(epoch)) for epoch in run.history],
            "best_epoch": trained.best.number,
            "stopped_at_rung": len(run.history) if behind and not run.finished else None,
            "memory_bytes": weights.stat().st_size,
            "said": self._said,
        }

    def _failed(self, reason: str) -> tuple[dict[str, Any], dict[str, Any]]:
        history = [] if self._run is None else [_finite(asdict(epoch)) for epoch in self._run.history]
        return {}, {"failure": reason[:500], "history": history, "said": self._said}


def _side_by_side(data: Labelled, inputs: Sequence[str]) -> Labelled:
    """The rows with one input: the only one that is read, or all that are, flat, one beside the other."""
    if len(inputs) == 1:
        return Labelled({inputs[0]: data.inputs[inputs[0]]}, data.labels, data.classes)
    flat = [data.inputs[name].reshape(len(data), -1) for name in inputs]
    return Labelled({"read": np.concatenate(flat, axis=1).astype(np.float32)}, data.labels, data.classes)


def _finite(epoch: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {key: value if math.isfinite(value) else None for key, value in epoch.items()}
