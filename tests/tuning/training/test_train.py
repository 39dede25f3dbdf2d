import hashlib
import io
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from quorate.tuning import Labelled, Training, build, digits, save_weights, train
from quorate.tuning.errors import DataError, TuningError

pytestmark = pytest.mark.long

SMALL: dict[str, Any] = {"family": "mlp", "width": 16, "depth": 1}


@pytest.fixture(scope="module")
def splits():
    return digits()


def state_bytes(model):
    return b"".join(v.numpy().tobytes() for v in model.state_dict().values())


def test_same_seed_gives_the_same_bits_and_another_seed_others(splits):
    first, second, third = (
        train(SMALL, splits.train, splits.validation, Training(epochs=2, seed=seed)) for seed in (3, 3, 4)
    )
    assert state_bytes(first.model) == state_bytes(second.model)
    assert first.history == second.history
    assert state_bytes(first.model) != state_bytes(third.model)


def test_jitter_shows_the_network_other_images_the_same_ones_for_the_same_seed(splits):
    plain, first, second = (
        train(SMALL, splits.train, splits.validation, Training(epochs=2, jitter=jitter)) for jitter in (0.0, 0.2, 0.2)
    )
    assert state_bytes(first.model) == state_bytes(second.model) != state_bytes(plain.model)
    assert first.history[-1].train_log_loss > plain.history[-1].train_log_loss


def test_training_leaves_the_callers_random_numbers_alone(splits):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    train(SMALL, splits.train, splits.validation, Training(epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_the_best_epoch_is_kept_and_training_stops_after_patience(splits):
    torch.manual_seed(0)
    trained = train(SMALL, splits.train, splits.validation, Training(epochs=60, patience=2, learning_rate=0.05))
    losses = [epoch.validation_log_loss for epoch in trained.history]
    assert trained.best.validation_log_loss == min(losses)
    assert len(losses) == trained.best.number + 2 < 60
    logits = trained.model(torch.from_numpy(splits.validation.inputs["image"]))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(splits.validation.labels)).item()
    assert loss == pytest.approx(min(losses), rel=1e-5)


def test_a_scheduler_can_stop_a_training(splits):
    trained = train(SMALL, splits.train, splits.validation, on_epoch=lambda epoch, model: epoch.number == 3)
    assert len(trained.history) == 3


def test_a_training_that_never_gives_a_finite_loss_says_so(splits):
    broken = Labelled(
        {"image": splits.train.inputs["image"] * np.float32("nan")}, splits.train.labels, splits.train.classes
    )
    with pytest.raises(TuningError, match="no finite log-loss in 2 epochs"):
        train(SMALL, broken, splits.validation, Training(epochs=20, patience=2))


def test_a_member_with_two_inputs_is_refused(splits):
    image = splits.train.inputs["image"]
    with pytest.raises(DataError, match="exactly one image input"):
        train(SMALL, Labelled({"a": image, "b": image}, splits.train.labels, splits.train.classes), splits.validation)


def test_weights_come_back_from_safetensors_with_their_digest(splits, tmp_path):
    trained = train(SMALL, splits.train, splits.validation, Training(epochs=1))
    digest = save_weights(trained.model, tmp_path / "artifacts" / "mlp.safetensors")
    assert digest == "sha256:" + hashlib.sha256((tmp_path / "artifacts" / "mlp.safetensors").read_bytes()).hexdigest()
    again = build(**SMALL, image=[1, 8, 8])
    again.load_state_dict(load_file(tmp_path / "artifacts" / "mlp.safetensors"))
    assert state_bytes(again) == state_bytes(trained.model)


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_bar_is_for_terminals_only(splits, terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80)
    train(SMALL, splits.train, splits.validation, Training(epochs=1), console=console)
    assert ("log-loss" in out.getvalue()) is terminal


@pytest.mark.parametrize(
    ("config", "training", "floor"),
    [
        ({"family": "cnn", "width": 16}, Training(epochs=8), 0.98),
        ({"family": "rnn", "width": 64, "cell": "lstm"}, Training(epochs=15), 0.96),
        ({"family": "transformer", "width": 32, "patch": 2}, Training(epochs=8, learning_rate=1e-3), 0.96),
    ],
    ids=["cnn", "rnn", "transformer"],
)
def test_each_family_learns_the_digits(splits, config, training, floor):
    model = train(config, splits.train, splits.validation, training).model
    predicted = model(torch.from_numpy(splits.test.inputs["image"])).argmax(dim=1).numpy()
    assert (predicted == splits.test.labels).mean() >= floor
