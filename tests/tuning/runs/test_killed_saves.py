"""Runs and sweeps killed at every write and rename: what is read afterwards is the old or the new, never a mixture."""

import os

import fsspec
import numpy as np
import pyarrow.fs
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from quorate.deployments import load_spec, parse_spec
from quorate.tuning import Labelled, PredictionStore, Splits, digits, save_weights, sweep
from quorate.tuning.errors import PredictionError, PromotionError, SweepError
from quorate.tuning.latency.curves import Curve, Measured, load_measured
from quorate.tuning.runs.input_spec import read_input_spec
from quorate.tuning.runs.probe import load_probe, save_probe
from quorate.tuning.runs.run_folder import save_deployable, save_report
from quorate.tuning.search.journal import Finished, Journal
from quorate.tuning.search.settings import make_settings, read_settings, save_settings
from quorate.tuning.search.space import SearchSpace
from quorate.tuning.training.checkpoint import load_checkpoint, save_checkpoint
from tests.deployments.support.killed_saves import read_after_each_kill

pytestmark = pytest.mark.long

MEMBERS = ("a", "b")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "saved_factory.py").write_text("def make():\n    return None\n")
    for name in MEMBERS:
        (tmp_path / "source" / f"{name}.safetensors").write_bytes(name.encode() * 9_000)
    return tmp_path / "source"


def spec(model="saved_factory:make", members=MEMBERS):
    members = {name: {"model": model, "weights": f"{name}.safetensors", "inputs": ["image"]} for name in members}
    return parse_spec(
        {
            "name": "saved", "inputs": {"image": {"datatype": "FP32", "shape": [1, 8, 8]}},
            "classes": [str(digit) for digit in range(10)], "members": members, "fusion": {"rule": "mean"},
        }
    )  # fmt: skip


def few(splits):
    return Splits(*(getattr(splits, part).rows(slice(0, 20)) for part in ("train", "validation", "test")))


def linear(value):
    model = nn.Linear(64, 64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def number(state):
    """The one number of a state; a mixture has two."""
    (value,) = torch.cat([tensor.flatten() for tensor in state.values()]).unique().tolist()
    return value


def settings(trials):
    return make_settings(
        space=SearchSpace(name="saved"), trials=trials, member_trials=0, objectives=("log_loss",), sampler="tpe",
        seed=0, parallel=1,
    )  # fmt: skip


def test_weights_are_the_old_or_the_new(folder):
    save_weights(linear(1.0), folder / "a.safetensors")
    seen = read_after_each_kill(
        folder, lambda: save_weights(linear(2.0), folder / "a.safetensors"),
        lambda: number(load_file(folder / "a.safetensors")),
    )  # fmt: skip
    assert (seen[0], seen[-1], set(seen)) == (1.0, 2.0, {1.0, 2.0})


def test_a_trainings_state_is_the_old_or_the_new_and_never_damaged(folder):
    def state(epoch):
        return {"x": torch.full((5_000,), float(epoch))}, {"epoch": epoch}

    def read():
        found = load_checkpoint(folder)
        assert found.damage is None
        assert found.words is not None
        assert number(found.tensors) == found.words["epoch"]
        return found.words["epoch"]

    save_checkpoint(folder, 1, *state(1))
    seen = read_after_each_kill(folder, lambda: save_checkpoint(folder, 2, *state(2)), read)
    assert (seen[0], seen[-1], set(seen)) == (1, 2, {1, 2})


def test_a_trial_is_in_the_journal_whole_or_not_at_all(folder):
    journal, first = Journal(folder), Finished(0, {"family": "mlp"}, {"log_loss": 0.5})
    second = Finished(1, {"family": "cnn"}, {"log_loss": 0.4}, details={"history": list(range(3_000))})
    journal.write("members", first)
    seen = read_after_each_kill(
        folder, lambda: journal.write("members", second), lambda: journal.read("members")
    )  # fmt: skip
    assert all(not damage for _, damage in seen)
    assert (seen[0][0], seen[-1][0]) == ({0: first}, {0: first, 1: second})
    assert all(trials in ({0: first}, {0: first, 1: second}) for trials, _ in seen)


def test_settings_of_a_sweep_are_whole_or_not_there(folder):
    def read():
        return read_settings(folder) if (folder / "sweep.json").exists() else None

    new = (settings(7), {"train": "abc"})
    seen = read_after_each_kill(folder, lambda: save_settings(folder, *new), read)
    assert (seen[0], seen[-1]) == (None, new)
    assert all(found in (None, new) for found in seen)


def test_a_sweep_that_was_killed_as_it_started_has_all_it_needs_or_can_be_started_again(folder, source, monkeypatch):
    monkeypatch.setattr("quorate.tuning.search.sweep._run", lambda *args: None)
    data, one = few(digits()), spec("torch.nn:Identity", ("a",))

    def start():
        sweep(one, data, folder=source, run_folder=folder, member_trials=0, trials=3)

    def read():
        try:
            read_settings(folder)
        except SweepError:
            start()
            found = "again"
        else:
            found = "whole"
        given = read_input_spec(folder)
        assert given is not None
        assert (folder / given.members["a"].weights).read_bytes() == b"a" * 9_000
        return found

    seen = read_after_each_kill(folder, start, read)
    assert (seen[0], seen[-1], set(seen)) == ("again", "whole", {"again", "whole"})


def test_what_a_killed_start_left_is_not_the_next_ones(folder, source, monkeypatch):
    monkeypatch.setattr("quorate.tuning.search.sweep._run", lambda *args: None)
    (folder / "given").mkdir()
    save_deployable(spec(), source, folder / "given")
    sweep(SearchSpace(name="saved"), few(digits()), run_folder=folder, member_trials=2, trials=3)
    assert read_input_spec(folder) is None


def test_a_run_folder_is_deployable_or_has_no_spec(folder, source):
    def read():
        if not (folder / "spec.yaml").exists():
            return "no spec"
        found = load_spec(folder / "spec.yaml")
        assert (folder / "saved_factory.py").read_bytes() == (source / "saved_factory.py").read_bytes()
        return {(folder / member.weights).read_bytes()[:1] for member in found.members.values()} == {b"a", b"b"}

    seen = read_after_each_kill(folder, lambda: save_deployable(spec(), source, folder), read)
    assert (seen[0], seen[-1], set(map(str, seen))) == ("no spec", True, {"no spec", "True"})


def test_each_file_of_a_run_that_is_written_again_is_the_old_or_the_new(folder, source):
    save_deployable(spec(), source, folder)
    (source / "b.safetensors").write_bytes(b"c" * 11_000)

    def read():
        load_spec(folder / "spec.yaml")
        return (folder / "a.safetensors").read_bytes(), (folder / "b.safetensors").read_bytes()

    seen = read_after_each_kill(folder, lambda: save_deployable(spec(), source, folder), read)
    assert {a for a, _ in seen} == {b"a" * 9_000}
    assert {b for _, b in seen} == {b"b" * 9_000, b"c" * 11_000}


def test_a_probe_is_the_old_or_the_new_or_not_there(folder):
    found = spec()
    rows = Labelled({"image": np.ones((8, 1, 8, 8), np.float32)}, np.zeros(8, np.int64), found.classes)

    def save(value):
        save_probe(folder, found, rows, np.arange(8), np.full((8, 10), value, np.float32))

    def read():
        try:
            return float(np.unique(load_probe(folder, found).expected)[0])
        except PromotionError:
            return None

    seen = read_after_each_kill(folder, lambda: save(0.25), read)
    assert (seen[-1], set(seen)) == (0.25, {None, 0.25})
    save(0.125)
    seen = read_after_each_kill(folder, lambda: save(0.25), read)
    assert (seen[0], seen[-1], set(seen)) == (0.125, 0.25, {0.125, 0.25})


def test_a_report_is_the_old_or_the_new(folder):
    save_report({"verdict": "old"}, folder)
    report = folder / "report.json"
    seen = read_after_each_kill(folder, lambda: save_report({"verdict": "new" * 3_000}, folder), report.read_text)
    assert len(set(seen)) == 2
    assert '"old"' in seen[0]
    assert seen[-1].endswith('new"\n}\n')


def test_measured_times_are_the_old_or_the_new(folder):
    old, new = (Measured({"a": Curve("cpu", {1: time}, {1: time}, (time,) * 500)}) for time in (0.5, 0.25))
    old.save(folder)
    seen = read_after_each_kill(folder, lambda: new.save(folder), lambda: load_measured(folder))
    assert (seen[0], seen[-1]) == (old, new)
    assert all(found in (old, new) for found in seen)


def test_stored_predictions_are_the_old_or_the_new_or_said_to_be_damaged(folder, source):
    # fsspec writes with Python, where each step is seen.
    files = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fsspec.filesystem("file")))
    store = PredictionStore(folder / "predictions", filesystem=files, partition_bytes=1_600)

    def fill(value):
        rows = Labelled({"image": np.full((60, 1, 8, 8), value, np.float32)}, np.zeros(60, np.int64), spec().classes)
        answers = np.full((60, 10), value, np.float32)
        return store.fill(spec(), source, rows, "validation", run=lambda *_: answers)

    def read():
        found = [read_one(name) for name in MEMBERS]
        fill(0.25)
        assert [read_one(name) for name in MEMBERS] == [0.25, 0.25]
        return tuple(found)

    def read_one(name):
        try:
            (value,) = np.unique(store.read("validation", [name])[0]).tolist()
        except PredictionError as error:
            return "said" if "damaged" in str(error) else str(error)
        return value

    fill(0.125)
    seen = read_after_each_kill(folder, lambda: fill(0.25), read)
    assert (seen[0], seen[-1]) == ((0.125, 0.125), (0.25, 0.25))
    assert {value for found in seen for value in found} == {0.125, 0.25, "said"}
