"""A file system of one mebibyte that fills up: an error, the last good state, and on it goes once there is room."""

import errno
import os

import numpy as np
import pytest
import torch

from quorate.deployments.atomic_files import storage_failed, write_whole
from quorate.tuning import Labelled, PredictionStore
from quorate.tuning.errors import SweepError
from quorate.tuning.search.journal import Finished, Journal
from quorate.tuning.training.checkpoint import load_checkpoint, save_checkpoint
from tests.tuning.runs.test_killed_saves import spec
from tests.tuning.support.small_disk import fill, small_disk

pytestmark = pytest.mark.long


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as place:
        yield place


def halves(disk):
    return [path.name for path in disk.rglob("*") if path.name.startswith(".") or path.name.endswith(".partial")]


def test_a_trainings_state_stays_the_last_that_had_room(disk):
    states = [({"x": torch.full((60_000,), float(epoch))}, {"epoch": epoch}) for epoch in (1, 2)]
    save_checkpoint(disk, 1, *states[0])
    fill(disk, 50_000)
    with pytest.raises(OSError, match="No space left on device") as error:
        save_checkpoint(disk, 2, *states[1])
    assert storage_failed(error.value)
    assert error.value.errno == errno.ENOSPC
    found = load_checkpoint(disk)
    assert (found.words, found.damage) == ({"epoch": 1}, None)
    assert not halves(disk)
    (disk / "ballast").unlink()
    save_checkpoint(disk, 2, *states[1])
    assert load_checkpoint(disk).words == {"epoch": 2}


def test_a_journal_keeps_what_it_has_and_says_how_to_go_on(disk):
    journal = Journal(disk)
    trials = [Finished(number, {}, {"log_loss": 0.5}, details={"history": [0.5] * 5_000}) for number in range(2)]
    journal.write("members", trials[0])
    fill(disk, 8_000)
    with pytest.raises(
        SweepError, match=rf"{disk}: cannot be written \(No space left on device\); make room, .*--resume"
    ):
        journal.write("members", trials[1])
    assert journal.read("members") == ({0: trials[0]}, [])
    assert not halves(disk)
    (disk / "ballast").unlink()
    journal.write("members", trials[1])
    assert len(journal.read("members")[0]) == 2


def test_stored_predictions_are_kept_and_the_rest_is_computed_when_there_is_room(disk, tmp_path):
    found, store = spec("torch.nn:Identity"), PredictionStore(disk / "predictions")
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"weights")
    rows = Labelled({"image": np.zeros((5_000, 1, 8, 8), np.float32)}, np.zeros(5_000, np.int64), found.classes)
    answers, ran = np.full((5_000, 10), 0.1, np.float32), []

    def run(job, folder, inputs):
        ran.append(job.name)
        return answers

    fill(disk, 300_000)  # room for one member's 200,000 bytes
    with pytest.raises(OSError, match="No space left on device"):
        store.fill(found, tmp_path, rows, "validation", run=run)
    assert store.members("validation") == ("a",)
    assert not halves(disk)
    (disk / "ballast").unlink()
    store.fill(found, tmp_path, rows, "validation", run=run)
    assert ran == ["a", "b", "b"]
    for probs in store.read("validation", ["a", "b"]):
        np.testing.assert_array_equal(probs, answers)


def test_a_file_is_as_it_was_when_the_new_one_has_no_room(disk):
    write_whole(disk / "file", b"old")
    fill(disk, 4_096)
    with pytest.raises(OSError, match="No space left on device"):
        write_whole(disk / "file", os.urandom(100_000))
    assert (disk / "file").read_bytes() == b"old"
    assert not halves(disk)
