import pytest
import torch

from quorate.tuning import Training, digits
from quorate.tuning.training.checkpoint import drop_checkpoints, load_checkpoint, save_checkpoint
from quorate.tuning.training.training_run import TrainingRun

CONFIG = {"family": "transformer", "width": 8, "depth": 1, "heads": 2, "patch": 4}
HOW = Training(epochs=4, jitter=0.1, seed=5)


@pytest.fixture(scope="module")
def data():
    splits = digits()
    return splits.train.rows(slice(0, 200)), splits.validation.rows(slice(0, 100))


def start(data):
    rows, validation = data
    return TrainingRun(CONFIG, rows, validation, HOW)


def finish(run):
    while not run.finished:
        run.step()
    return run.result()


def test_a_training_taken_up_from_its_file_gives_the_bits_of_one_that_never_stopped(data, tmp_path):
    whole = finish(start(data))
    first = start(data)
    for epoch in (1, 2):
        first.step()
        save_checkpoint(tmp_path, epoch, *first.state())
    assert len(list(tmp_path.iterdir())) == 1  # the older one is gone
    found = load_checkpoint(tmp_path)
    second = start(data)
    assert found.tensors is not None
    assert found.words is not None
    second.restore(found.tensors, found.words)
    again = finish(second)
    assert again.history == whole.history
    pairs = zip(again.model.state_dict().values(), whole.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data[:-1] + b"\x7f"])
def test_a_damaged_file_is_found_before_it_is_read(data, tmp_path, damage):
    run = start(data)
    run.step()
    path = save_checkpoint(tmp_path, 1, *run.state())
    path.write_bytes(damage(path.read_bytes()))
    found = load_checkpoint(tmp_path)
    assert found.tensors is None
    assert found.damage is not None
    assert "has other bytes than were written" in found.damage
    drop_checkpoints(tmp_path)
    assert load_checkpoint(tmp_path).damage is None
