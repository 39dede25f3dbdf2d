"""Pickles under every name a file may have: refused, and never loaded."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from quorate.deployments import load_model, parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.deployments.errors import MemberLoadError, RequestError, SpecError
from quorate.deployments.rows.reading import Wanted, read_inputs
from quorate.deployments.spec.check_files import check_files
from quorate.deployments.spec.model_formats import CHECKPOINTS, TORCHSCRIPT
from quorate.fusion.errors import QuorateError
from quorate.tuning.data.tables import read_table
from quorate.tuning.errors import DataError, PredictionError, PromotionError, SweepError
from quorate.tuning.latency.curves import Measured, load_measured
from quorate.tuning.predictions.store import PredictionStore
from quorate.tuning.runs.probe import load_probe
from quorate.tuning.search.journal import Journal
from quorate.tuning.search.settings import read_settings
from quorate.tuning.training.checkpoint import _digest, load_checkpoint


class Canary:
    """Loading its pickle makes a file."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return Path.touch, (self._path,)


def saved(write):
    """The bytes that ``write`` puts into a file."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def torch_archive(pickled):
    """What ``torch.save`` writes, with another pickle in it."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved(lambda file: torch.save({"weight": torch.zeros(2)}, file)))) as old,
        zipfile.ZipFile(file, "w") as new,
    ):
        for name in old.namelist():
            new.writestr(name, pickled if name.endswith("data.pkl") else old.read(name))
    return file.getvalue()


KINDS = {
    "pickle": pickle.dumps,
    "torch archive": lambda bad: torch_archive(pickle.dumps(bad)),
    "torch legacy": lambda bad: saved(lambda file: torch.save(bad, file, _use_new_zipfile_serialization=False)),
    "npy": lambda bad: saved(lambda file: np.save(file, np.array([bad], dtype=object))),
    "npz": lambda bad: saved(
        lambda file: np.savez(file, x=np.array([bad], dtype=object), label=np.array([bad], dtype=object))
    ),
}


@pytest.fixture(params=KINDS)
def harm(request, tmp_path):
    """Bytes that would tell if a pickle in them were loaded."""
    told = tmp_path / "told"
    data = KINDS[request.param](Canary(told))
    assert b"touch" in data
    assert not told.exists()
    yield data
    assert not told.exists(), "a pickle was loaded"


def test_the_canary_tells(tmp_path):
    told = tmp_path / "told"
    torch.load(io.BytesIO(torch_archive(pickle.dumps(Canary(told)))), weights_only=False)
    assert told.exists()
    told.unlink()
    np.load(io.BytesIO(KINDS["npy"](Canary(told))), allow_pickle=True)
    assert told.exists()


def spec(model="torch.nn:Linear", weights=None, **fusion):
    config = {"in_features": 2, "out_features": 2} if model == "torch.nn:Linear" else {}
    member = {"model": model, "weights": weights, "config": config, "inputs": ["x"]}
    inputs = {"x": {"datatype": "FP32", "shape": [2]}}
    rest = {"fusion": {"rule": "mean", **fusion}, "classes": ["0", "1"]}
    return parse_spec({"name": "harmed", "inputs": inputs, "members": {"a": member}, **rest})


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".npy", ".npz", ".joblib"])
def test_weights_and_states_of_other_kinds_are_refused_by_their_names(suffix):
    with pytest.raises(SpecError, match=f"members.a.weights: .*{suffix}' is not a .*; .*pickles can run"):
        spec(weights=f"a{suffix}")
    with pytest.raises(SpecError, match=f"fusion.state: .*{suffix}' is not a .safetensors file; .*pickles can run"):
        spec(rule="stacking", state=f"a{suffix}")
    with pytest.raises(SpecError, match=f"fusion.calibration.state: .*{suffix}' is not a .safetensors file"):
        spec(calibration={"state": f"a{suffix}"})
    with pytest.raises(
        SpecError,
        match=r"members\.a\.model: .* is (a pickle, which may run code|no model; write)",
    ):
        spec(model=f"a{suffix}")


@pytest.mark.long
def test_a_pickle_that_is_named_as_a_model_is_refused_and_never_run(harm, tmp_path):
    weights = [("torch.nn:Linear", f"a{suffix}") for suffix in (".safetensors", *CHECKPOINTS)]
    for model, path in (*weights, ("a.pt2", None), ("a.pt", None), ("a.onnx", None)):
        (tmp_path / (path or model)).write_bytes(harm)
        found = spec(model, path)
        with pytest.raises(
            MemberLoadError, match=r"members\.a: (a\.\w+ (cannot be|is no|holds more than tensors)|onnxruntime is)"
        ):
            load_model("a", found.members["a"], tmp_path)


@pytest.mark.parametrize("suffix", CHECKPOINTS)
def test_a_pickle_that_is_named_as_a_checkpoint_is_refused_when_the_spec_is_checked(harm, tmp_path, suffix):
    for model, path in (("torch.nn:Linear", f"a{suffix}"), (f"a{suffix}", None)):
        if path is None and suffix not in TORCHSCRIPT.suffixes:
            continue
        (tmp_path / (path or model)).write_bytes(harm)
        with pytest.raises(SpecError, match=rf"members\.a\.(weights|model): a{suffix} is "):
            check_files(spec(model, path), tmp_path)


class Writing(torch.nn.Module):
    def forward(self, x: torch.Tensor):
        torch.save(x, "written_by_a_program.pt")
        return x


class Reading(torch.nn.Module):
    def forward(self, x: torch.Tensor):
        return torch.from_file("/etc/hostname", False, 2)


@pytest.mark.parametrize("program", [Writing, Reading])
@pytest.mark.filterwarnings("ignore:.*jit.*:DeprecationWarning")
def test_a_torchscript_program_that_opens_files_is_refused_and_never_loaded(tmp_path, program):
    torch.jit.save(torch.jit.script(program()), tmp_path / "a.pt")
    found = spec("a.pt")
    with pytest.raises(SpecError, match=r"members\.a\.model: a\.pt may not be run: its code says '\w+', by which it"):
        check_files(found, tmp_path)
    with pytest.raises(MemberLoadError, match="by which it could open files"):
        load_model("a", found.members["a"], tmp_path)


def test_a_pickle_that_is_named_as_a_state_is_refused_and_never_run(harm, tmp_path):
    (tmp_path / "state.safetensors").write_bytes(harm)
    of_rule, of_calibration = {"rule": "stacking", "state": "state.safetensors"}, {"state": "state.safetensors"}
    for found in (spec(**of_rule), spec(calibration=of_calibration)):
        with pytest.raises(QuorateError, match=r"state\.safetensors: cannot be read"):
            build_revision(found, tmp_path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".json", ".jsonl", ".parquet", ".arrow", ".pkl", ".pt"])
def test_a_pickle_among_rows_is_refused_and_never_run(harm, tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(harm)
    with pytest.raises(RequestError, match=f"rows{suffix}"):
        read_inputs(path, {"x": Wanted("FP32", (2,))})


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".arrow", ".feather", ".pkl", ".npy"])
def test_a_pickle_among_labelled_rows_is_refused_and_never_run(harm, tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(harm)
    with pytest.raises(DataError, match=f"rows{suffix}"):
        read_table(path, {"x": (2,)}, ("0", "1"))


def test_pickles_in_a_column_of_rows_are_bytes(harm, tmp_path):
    parquet.write_table(pa.table({"x": [harm], "label": [harm]}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"rows\.parquet"):
        read_table(tmp_path / "rows.parquet", {"x": (2,)}, ("0", "1"))


def test_pickles_in_the_files_of_a_sweep_are_refused_and_never_run(harm, tmp_path):
    kept = ("sweep.json", "measured.json", "probe.arrow", "trials/members/00000.json", "predictions/v/manifest.json")
    for path in kept:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(harm)
    (tmp_path / f"state-00001-{_digest(harm)}.safetensors").write_bytes(harm)
    with pytest.raises(SweepError, match=r"sweep\.json is damaged"):
        read_settings(tmp_path)
    with pytest.raises(PromotionError):
        load_probe(tmp_path, spec())
    with pytest.raises(PredictionError, match="the manifest is damaged"):
        PredictionStore(tmp_path / "predictions").read("v", ["a"])
    assert load_measured(tmp_path) == Measured()
    assert Journal(tmp_path).read("members") == ({}, ["members/00000.json is damaged: the trial runs again"])
    assert "is no training's state" in str(load_checkpoint(tmp_path).damage)
