"""A run's folder is deployable as it is: what a model's own file names comes along."""

import shutil

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from quorate.deployments import load_model, load_spec, parse_spec
from quorate.deployments.spec.check_files import check_files
from quorate.tuning.runs.input_spec import read_input_spec, save_input_spec
from quorate.tuning.runs.run_folder import save_deployable


def keep_outside(path, scale):
    """A model that multiplies by ``scale``, which it keeps in a file beside it."""
    path.parent.mkdir()
    weight = numpy_helper.from_array(np.full((2, 2), scale, np.float32), "w")
    read, given = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 2]) for n in ("x", "y"))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [read], [given], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=True, location="m.onnx.data", size_threshold=0)


def test_tensors_in_files_beside_onnx_models_inside_and_outside_of_the_specs_folder_are_copied(tmp_path):
    source, run = tmp_path / "source", tmp_path / "run"
    source.mkdir()
    places = {"inside": source / "nets", "one": tmp_path / "one", "other": tmp_path / "other"}
    for scale, place in enumerate(places.values(), start=1):
        keep_outside(place / "m.onnx", scale)
    paths = {**{name: str(place / "m.onnx") for name, place in places.items()}, "inside": "nets/m.onnx"}
    members = {name: {"model": path, "inputs": ["x"], "output": "values"} for name, path in paths.items()}
    inputs = {"x": {"datatype": "FP32", "shape": [2]}}
    spec = parse_spec({"name": "kept", "inputs": inputs, "members": members, "fusion": {"rule": "mean"}})
    written = save_deployable(spec, source, run)
    for place in places.values():
        (place / "m.onnx.data").unlink()
    for scale, name in enumerate(places, start=1):
        found = load_model(name, written.members[name], run).predict({"x": np.ones((1, 2), np.float32)})
        assert found.tolist() == [[2.0 * scale] * 2]


FACTORY = """
from pathlib import Path

def named(where):
    words = [float(word) for file in sorted(Path(where).iterdir()) for word in file.read_text().split()]
    return lambda x: x * words
"""


def test_folders_that_a_config_names_are_found_where_a_sweep_keeps_its_spec(tmp_path):
    source, run = tmp_path / "source", tmp_path / "run"
    (source / "words").mkdir(parents=True)
    (source / "words" / "some").write_text("2 3")
    (source / "factory_of_words.py").write_text(FACTORY)
    member = {"model": "factory_of_words:named", "config": {"where": "./words"}, "inputs": ["x"], "output": "values"}
    inputs = {"x": {"datatype": "FP32", "shape": [2]}}
    spec = parse_spec({"name": "kept", "inputs": inputs, "members": {"m": member}, "fusion": {"rule": "mean"}})
    save_input_spec(spec, source, run)
    shutil.rmtree(source)
    kept = read_input_spec(run)
    assert kept is not None
    found = load_model("m", kept.members["m"], run).predict({"x": np.ones((1, 2), np.float32)})
    assert found.tolist() == [[2.0, 3.0]]


def linear(path, weight):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"weight": torch.full((2, 2), weight)}, path)


def test_no_two_files_get_one_name(tmp_path):
    """The one is called already as the other would be."""
    source, run = tmp_path / "source", tmp_path / "run"
    linear(source / "artifacts" / "b.safetensors", 1.0)
    linear(tmp_path / "elsewhere" / "x.safetensors", 2.0)
    linear(tmp_path / "elsewhere" / "b.safetensors", 3.0)
    config = {"in_features": 2, "out_features": 2, "bias": False}
    common = {"model": "torch.nn:Linear", "config": config, "inputs": ["x"], "output": "values"}
    paths = {"a": "artifacts/b.safetensors", "b": "../elsewhere/x.safetensors", "c": "../elsewhere/b.safetensors"}
    members = {name: {**common, "weights": path} for name, path in paths.items()}
    inputs = {"x": {"datatype": "FP32", "shape": [2]}}
    spec = parse_spec({"name": "kept", "inputs": inputs, "members": members, "fusion": {"rule": "mean"}})
    written = save_deployable(spec, source, run)
    found = {n: load_model(n, m, run).predict({"x": np.ones((1, 2), np.float32)}) for n, m in written.members.items()}
    assert {name: values.tolist() for name, values in found.items()} == {
        "a": [[2.0] * 2], "b": [[4.0] * 2], "c": [[6.0] * 2]
    }  # fmt: skip


def test_states_of_calibrations_travel_with_the_rule(tmp_path):
    source, run = tmp_path / "source", tmp_path / "run"
    source.mkdir()
    states = {"fused": source / "fused.safetensors", "own": tmp_path / "own.safetensors"}
    for scale, path in enumerate(states.values(), start=2):
        save_file({"scale": torch.full((2,), float(scale)), "bias": torch.zeros(2)}, path)
    member = {"model": "torch.nn:Identity", "inputs": ["x"], "output": "probabilities"}
    calibrated = {
        "calibration": {"state": "fused.safetensors"},
        "member_calibration": {"m": {"state": str(states["own"])}},
    }
    words = {"name": "kept", "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "classes": ["a", "b"]}
    spec = parse_spec({**words, "members": {"m": member}, "fusion": {"rule": "mean", **calibrated}})
    contents = [path.read_bytes() for path in states.values()]
    save_deployable(spec, source, run)
    shutil.rmtree(source)
    states["own"].unlink()
    kept_spec = load_spec(run / "spec.yaml")
    check_files(kept_spec, run)
    fusion = kept_spec.model_dump()["fusion"]
    kept = (fusion["calibration"]["state"], fusion["member_calibration"]["m"]["state"])
    assert [(run / path).read_bytes() for path in kept] == contents
