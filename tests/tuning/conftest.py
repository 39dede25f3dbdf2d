"""A tiny ensemble on real digits: three perceptrons of different strength, trained once."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from quorate.deployments import EnsembleSpec, parse_spec
from quorate.tuning import PredictionStore, Splits, Training, digits, save_weights, train
from quorate.tuning.architectures import BUILD

# Networks this small train fastest on one thread, and on a busy machine threads that wait for each other take minutes.
torch.set_num_threads(1)


@dataclass(frozen=True)
class Tiny:
    spec: EnsembleSpec
    folder: Path
    splits: Splits


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    splits = digits()
    members = {}
    for name, width, epochs in (("weak", 4, 2), ("middle", 12, 4), ("strong", 32, 8)):
        config = {"family": "mlp", "width": width, "depth": 1, "image": [1, 8, 8]}
        trained = train(config, splits.train, splits.validation, Training(epochs=epochs, seed=width))
        weights = f"artifacts/{name}.safetensors"
        digest = save_weights(trained.model, folder / weights)
        members[name] = {
            "model": BUILD,
            "config": config,
            "weights": weights,
            "digest": digest,
            "inputs": ["image"],
        }
    spec = parse_spec(
        {
            "name": "tiny",
            "inputs": {"image": {"datatype": "FP32", "shape": [1, 8, 8]}},
            "classes": list(splits.train.classes),
            "members": members,
            "fusion": {"rule": "mean", "members": list(members), "quorum": 2, "deadline_s": 2.0},
        }
    )
    return Tiny(spec, folder, splits)


@pytest.fixture
def rows(tiny):
    return tiny.splits.validation.rows(slice(0, 100))


@pytest.fixture
def store(tmp_path):
    return PredictionStore(tmp_path / "predictions")
