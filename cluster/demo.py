"""The whole loop on real handwritten digits: train, tune, deploy, ask, compare, clean up."""

# N test rows, C classes

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.client.client import Client
from quorate.deployments.display import Displayed, Table
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import parse_spec, save_spec
from quorate.fusion.errors import QuorateError
from quorate.fusion.extras import require

if TYPE_CHECKING:
    from quorate.tuning.data.labelled import Labelled, Splits
    from quorate.tuning.evaluation.verdict import Choice
    from quorate.tuning.workflows.tune_result import TuneResult

# Hyper-parameters, and how each is trained. On the 8x8 digits all three are small enough to train in seconds, and of
# such different strength that the uniform mean is not the best that can be done with them.
DIGITS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cnn": ({"width": 6, "depth": 2}, {"epochs": 15, "learning_rate": 4e-3}),
    "rnn": ({"width": 64, "cell": "lstm"}, {"epochs": 40, "learning_rate": 3e-3, "jitter": 0.1}),
    "transformer": ({"width": 32, "depth": 1, "patch": 2}, {"epochs": 30, "jitter": 0.1}),
}
IMAGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cnn": ({"width": 16, "depth": 3}, {"epochs": 6, "batch_size": 64}),
    "rnn": ({"width": 96}, {"epochs": 8, "batch_size": 64}),
    "transformer": ({"width": 64, "depth": 2, "patch": 4}, {"epochs": 8, "batch_size": 64}),
}
Say = Callable[[str], None]
CLIENTS = 4
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Served:
    """What came back over HTTP; a mismatch differs from the offline fusion of the same row by more than 1e-5."""

    requests: int
    errors: int
    mismatches: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, repr=False)
class DemoReport(Displayed):
    """What the demo found.

    Attributes:
        choice: the decision over all alternatives, by log-loss on the test rows.
        accuracy: of each alternative that asks members, on the test rows.
        served: what the deployed service answered.
    """

    choice: Choice
    accuracy: Mapping[str, float]
    served: Served

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return {**self.choice.to_dict(), "accuracy": dict(self.accuracy), "served": asdict(self.served)}

    def tables(self) -> Sequence[Table]:
        choice, served = self.choice, self.served
        rows = [
            (
                f"{name} *" if name == choice.recommended else name,
                str(one.members),
                f"{self.accuracy[name]:.4f}" if name in self.accuracy else "",
                f"{one.value:.4f}",
                f"{one.low:.4f} to {one.high:.4f}",
            )
            for name, one in choice.alternatives.items()
        ]
        requests = f"{served.requests} requests over HTTP: {served.errors} errors, {served.mismatches} mismatches"
        lines = [choice.verdict, f"{requests}, p50 {served.p50_ms:.1f} ms, p99 {served.p99_ms:.1f} ms"]
        return [Table(("", "members", "accuracy", "log-loss", "95 %"), rows, lines=lines)]


def demo(
    data: str | Path | None = None, *, full: bool = False, on_step: Callable[[str], None] | None = None
) -> DemoReport:
    """Train, tune, deploy on a cluster of the demo's own, ask every test row, and clean up.

    Args:
        data: a folder of IDX files; scikit-learn's digits when None.
        full: all of ``data`` instead of a subset.
        on_step: told what was found and what happens next.
    """
    require("tune", "the demo")
    import torch

    from quorate.tuning.data.digits import digits
    from quorate.tuning.data.idx_files import idx_images
    from quorate.tuning.workflows.tune_fusion import tune_fusion

    # Layers this small are over before a second thread has woken up; on a busy machine they wait for it for minutes.
    torch.set_num_threads(1)
    say = on_step or (lambda step: None)
    splits = digits() if data is None else idx_images(Path(data), full)
    say(f"{len(splits.train)} images to train on, {len(splits.validation)} to tune on, {len(splits.test)} to test")
    with tempfile.TemporaryDirectory(prefix="quorate-demo-") as place:
        folder = Path(place)
        spec = _train(splits, DIGITS if data is None else IMAGES, folder, say)
        # Its rows to judge are the test rows of the table: what is served of it is not fitted on them.
        how: dict[str, Any] = {"runs": folder / "runs", "on_step": say, "refit": False}
        result = tune_fusion(spec, folder, splits.validation, splits.test, **how)
        served = _serve(result, splits.test, say)
        return _report(result, splits.test, served)


def _train(
    splits: Splits, families: dict[str, tuple[dict[str, Any], dict[str, Any]]], folder: Path, say: Say
) -> EnsembleSpec:
    from quorate.tuning.training.checkpoint import save_weights
    from quorate.tuning.training.epochs import Training
    from quorate.tuning.training.train import train

    image = list(next(iter(splits.train.inputs.values())).shape[1:])
    classes = splits.train.classes
    members: dict[str, Any] = {}
    for name, (hyper_parameters, how) in families.items():
        config = {"family": name, **hyper_parameters, "image": image, "classes": len(classes)}
        say(f"training {name}")
        trained = train(config, splits.train, splits.validation, Training(**how))
        digest = save_weights(trained.model, folder / f"{name}.safetensors")
        say(f"{name}: {trained.best.validation_accuracy:.4f} of the validation images right")
        members[name] = {
            "model": "quorate.tuning.architectures:build",
            "config": config,
            "weights": f"{name}.safetensors",
            "digest": digest,
            "inputs": ["image"],
        }
    spec = parse_spec(
        {
            "name": "digits",
            "inputs": {"image": {"datatype": "FP32", "shape": image}},
            "classes": list(classes),
            "members": members,
            "fusion": {"rule": "mean", "deadline_s": 5.0, "quorum": 2},
        }
    )
    save_spec(spec, folder / "digits.yaml")
    return spec


def _serve(result: TuneResult, test: Labelled, say: Say) -> Served:
    """Deploy the tuned spec on a cluster of the demo's own, and send it every test row."""
    from quorate.cluster.local import cluster as local

    place = Path(tempfile.mkdtemp(prefix="quorate-"))
    say("starting a local cluster")
    with local.hosting(place, announce=False):
        from quorate.deployments.control import deploy as control

        say("starting members")
        deployed = control.deploy(result.spec, result.folder)
        say(f"asking {deployed.http}")
        return _ask(deployed.http, result, test)


def _ask(url: str, result: TuneResult, test: Labelled) -> Served:
    image = test.inputs["image"]
    expected = _offline(result)

    def ask(client: Client, row: int) -> tuple[float, NDArray[Any] | None]:
        started = time.perf_counter()
        try:
            answer = client.infer(result.spec.name, {"image": image[row : row + 1]})
        except QuorateError:
            return time.perf_counter() - started, None
        return time.perf_counter() - started, answer.outputs[result.spec.output_name]

    with Client(url) as client, ThreadPoolExecutor(CLIENTS) as pool:
        client.infer(result.spec.name, {"image": image[:1]})  # opens the first connection, not counted
        answers = list(pool.map(lambda row: ask(client, row), range(len(test))))
    seconds = [took for took, _ in answers]
    errors = sum(values is None for _, values in answers)
    wrong = sum(
        v is not None and np.abs(v[0] - e).max() > TOLERANCE for (_, v), e in zip(answers, expected, strict=True)
    )
    return Served(len(answers), errors, int(wrong), *(float(np.percentile(seconds, q)) * 1e3 for q in (50, 99)))


def _offline(result: TuneResult) -> NDArray[np.float32]:
    """(N, C) the fusion of the stored predictions, without any serving in between."""
    from quorate.deployments.engine.revision import build_revision
    from quorate.tuning.predictions.store import PredictionStore

    revision = build_revision(result.spec, result.folder)
    outputs = np.stack(PredictionStore(result.folder / "predictions").read("held-out", revision.asked)).astype(
        np.float32
    )
    fused: NDArray[np.float32] = revision.fuse(outputs, np.ones(outputs.shape[:2], dtype=np.bool_)).values
    return fused


def _report(result: TuneResult, test: Labelled, served: Served) -> DemoReport:
    from quorate.tuning.predictions.store import PredictionStore

    names = tuple(result.weights)
    outputs = np.stack(PredictionStore(result.folder / "predictions").read("held-out", names))
    accuracy = {
        name: float((recipe.fuse(names, outputs).argmax(axis=1) == test.labels).mean())
        for name, recipe in result.choice.recipes.items()
    }
    return DemoReport(result.choice, accuracy, served)
