"""A wrong spec is refused before anything starts, with the field and the fix; a right one survives YAML."""

import copy
import subprocess
import sys

import pytest
import yaml

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.digests import file_digest
from quorate.deployments.spec.files import dump_spec, load_spec, parse_spec, save_spec
from quorate.deployments.spec.schema import MemberJob

VALID = yaml.safe_load(
    """
name: digits
inputs: {image: {datatype: FP32, shape: [1, 8, 8]}}
classes: [zero, one, two]
members:
  cnn: {model: "quorate.tuning.architectures:build", config: {family: cnn}, inputs: [image]}
  rnn: {model: "quorate.tuning.architectures:build", config: {family: rnn}, inputs: [image], classes: [two, zero]}
fusion:
  rule: weighted_mean
  weights: {cnn: 0.5, rnn: 0.5}
  deadline_s: 0.25
  quorum: 2
"""
)


def change(path, value):
    """The valid spec with one value set, or removed where the value is ``del``."""
    data = copy.deepcopy(VALID)
    *way, last = path.split(".")
    at = data
    for step in way:
        at = at[step]
    if value is del_:
        del at[last]
    else:
        at[last] = value
    return data


del_ = object()
MISTAKES = [
    ("name", del_, "name: it is missing"),
    ("name", "a/b", "name: 'a/b' is not allowed"),
    ("name", "cnn", "name: 'cnn' is also in members"),
    ("nmae", "x", "did you mean 'name'?"),
    ("inputs.image.datatype", "FLOAT", "inputs.image.datatype: found 'FLOAT'"),
    ("inputs.image.shape", [0, 8], "inputs.image.shape: [0, 8] holds no element"),
    ("inputs.sound", {"datatype": "FP32", "shape": [4]}, "inputs.sound: no member reads it"),
    ("inputs.cnn", {"datatype": "FP32", "shape": [4]}, "members.cnn: the name is taken by inputs.cnn"),
    ("classes", [], "classes: the list is empty"),
    ("classes", ["zero", "zero"], "classes: zero is listed twice"),
    ("classes", ["one", "two", "three"], "members.rnn.classes: zero is not among the ensemble's classes"),
    ("members", {}, "members: found {}"),
    ("members.cnn.model", "torch.nn.Linear", "members.cnn.model: 'torch.nn.Linear' is no model"),
    ("members.cnn.model", "m.joblib", "if you trust where it is from, quorate convert m.joblib --to skops"),
    ("members.cnn.model", "m.safetensors", "holds weights alone; name the factory of its module as model"),
    ("members.cnn.model", "m.keras", "is a model of TensorFlow; export it to ONNX"),
    ("members.cnn.config", "wide", "members.cnn.config: found 'wide'"),
    ("members.cnn.weights", "cnn.pkl", "pickles can run code and are refused"),
    ("members.cnn.digest", "sha256:1", "members.cnn.digest: 'sha256:1' is not allowed"),
    ("members.cnn.digest", "sha256:" + "0" * 64, "members.cnn.digest: there is no weights file"),
    ("members.cnn.inputs", [], "members.cnn.inputs: found []"),
    ("members.cnn.inputs", ["imgae"], "did you mean 'image'?"),
    ("members.cnn.inputs", ["cnn"], "'cnn' reads itself"),
    ("members.cnn.inputs", ["image", "image"], "names one twice"),
    ("members.cnn.output", "softmax", "members.cnn.output: found 'softmax'"),
    ("members.cnn.output", "features", "rule 'weighted_mean' cannot read the features of 'cnn'"),
    ("members.cnn.resources", {"num_gpus": 1.5}, "1.5 cannot be placed"),
    ("members.cnn.resources", {"num_gpus": -1}, "members.cnn.resources.num_gpus: found -1"),
    ("members.cnn.resources", {"accelerator_type": "H100"}, "ask for num_gpus above 0"),
    ("members.cnn.replicas", {"min": 3, "max": 2}, "min 3 is above max 2"),
    ("members.cnn.max_batch_size", 0, "members.cnn.max_batch_size: found 0"),
    ("members.cnn.stall_timeout_s", float("nan"), "members.cnn.stall_timeout_s: found nan"),
    ("fusion", del_, "there is no fusion"),
    ("fusion.rule", "weighted_maen", "did you mean 'weighted_mean'?"),
    ("fusion.rule", "mean", "rule 'mean' does not read weights"),
    ("fusion.members", ["cnn", "gru"], "'gru' is no member here"),
    ("fusion.members", ["cnn", "cnn"], "names one twice"),
    ("fusion.weights", del_, "weighted_mean has no weights"),
    ("fusion.weights", {"cnn": 1.0}, "fusion.weights.rnn: the weight is missing"),
    ("fusion.weights", {"cnn": 1.0, "rnn": 1.0, "gru": 1.0}, "'gru' is no member here"),
    ("fusion.weights.cnn", -0.1, "fusion.weights.cnn: the weight is -0.1"),
    ("fusion.weights.cnn", float("nan"), "fusion.weights.cnn: the weight is nan"),
    ("fusion.weights.cnn", float("inf"), "fusion.weights.cnn: the weight is inf"),
    ("fusion.weights", {"cnn": 0.0, "rnn": 0.0}, "all weights are 0"),
    ("fusion.options", {"floor": 1}, "rule 'weighted_mean' has no such option"),
    ("fusion.deadline_s", 0, "fusion.deadline_s: found 0"),
    ("fusion.deadline_s", "soon", "fusion.deadline_s: found 'soon'"),
    ("fusion.quorum", 3, "3 members must answer but only 2 are fused"),
    ("fusion.quorum", 0, "fusion.quorum: found 0"),
    ("fusion.required", ["gru"], "'gru' is no member here"),
    ("fusion.overload", "drop", "fusion.overload: found 'drop'"),
    ("fusion.thinning", {"steps": [{"without": "gru"}]}, "fusion.thinning.steps: 'gru' is no member here"),
    ("fusion.hedge", {"after": "often"}, "fusion.hedge.after: 'often' is not allowed"),
    ("output", "other", "output: 'other' is not a fusion"),
    ("fusions", {"other": VALID["fusion"]}, "both fusion and fusions are given"),
    ("serving", {"max_batch_size": "many"}, "serving.max_batch_size: found 'many'"),
]


@pytest.mark.parametrize(("path", "value", "sentence"), MISTAKES, ids=[f"{m[0]}-{i}" for i, m in enumerate(MISTAKES)])
def test_a_mistake_is_named_with_its_field_and_fix(path, value, sentence):
    with pytest.raises(SpecError) as error:
        parse_spec(change(path, value))
    assert sentence in str(error.value)
    assert ";" in str(error.value)


def test_a_cycle_is_named_with_its_members():
    data = change("members.cnn.inputs", ["rnn"])
    data["members"]["rnn"]["inputs"] = ["cnn"]
    with pytest.raises(SpecError, match=r"cycle: (cnn -> rnn -> cnn|rnn -> cnn -> rnn)"):
        parse_spec(data)


def test_a_member_that_nothing_reads_is_refused():
    data = change("fusion.members", ["cnn"])
    data["fusion"] |= {"weights": {"cnn": 1.0}, "quorum": 1}
    with pytest.raises(SpecError, match=r"members\.rnn: nothing reads it"):
        parse_spec(data)


def test_serial_stacked_feature_and_multi_modal_graphs_validate():
    data = copy.deepcopy(VALID)
    data["inputs"]["sound"] = {"datatype": "FP32", "shape": [16]}
    data["members"] |= {
        "encoder": {"model": "torch.nn:Identity", "inputs": ["sound"], "output": "features"},
        "head": {"model": "torch.nn:Identity", "inputs": ["encoder"]},
        "stack": {"model": "torch.nn:Identity", "inputs": ["cnn", "rnn", "head"]},
    }
    data["fusion"] = {"rule": "mean"}
    assert parse_spec(data).output_fusion.members == ("stack",)


def test_yaml_out_and_in_gives_the_same_spec(tmp_path):
    spec = parse_spec(VALID)
    save_spec(spec, tmp_path / "spec.yaml")
    assert load_spec(tmp_path / "spec.yaml") == spec
    assert parse_spec(yaml.safe_load(dump_spec(spec))).revision == spec.revision


def test_class_names_may_be_written_as_numbers():
    data = change("classes", [0, 1, 2])
    data["members"]["rnn"]["classes"] = [2, 0]
    assert parse_spec(data).classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: [", "not YAML at line"),
        ("- 1", "the file holds no mapping"),
        ("", "the file holds no mapping"),
        ("name: a\n\tinputs: b", "spec.yaml: not YAML at line 2, column 1: a tab; indent with spaces"),
        ("name: a\n? [b]\n: c", "a key that is no text (line 2, column 3)"),
        ("name: !!binary aaaa", "not YAML that a spec may hold: the tag"),
        ("name: a\nname: b", "name: the key is given twice (line 2, column 1), first on line 1; remove one"),
        ("a: &a [*a]", "a.0: it holds itself (line 1, column 4)"),
        ("name: !!python/object/apply:os.system [ls]", "not YAML"),
    ],
)
def test_a_file_that_is_no_spec_is_named(tmp_path, text, sentence):
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(SpecError) as error:
        load_spec(tmp_path / "spec.yaml")
    assert sentence in str(error.value)


def test_a_missing_spec_weights_file_or_module_is_named(tmp_path):
    with pytest.raises(SpecError, match="cannot be read"):
        load_spec(tmp_path / "none.yaml")
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(change("members.cnn.weights", "cnn.safetensors")))
    with pytest.raises(SpecError, match=r"members\.cnn\.weights: there is no file"):
        load_spec(tmp_path / "spec.yaml")
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(change("members.cnn.model", "no_such_module:build")))
    with pytest.raises(SpecError, match="there is no module 'no_such_module'"):
        load_spec(tmp_path / "spec.yaml")


def test_a_checkpoint_with_another_digest_is_refused(tmp_path):
    (tmp_path / "cnn.safetensors").write_bytes(b"as trained")
    data = change("members.cnn.weights", "cnn.safetensors")
    data["members"]["cnn"]["digest"] = file_digest(tmp_path / "cnn.safetensors")
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(data))
    load_spec(tmp_path / "spec.yaml")
    (tmp_path / "cnn.safetensors").write_bytes(b"tampered")
    with pytest.raises(SpecError, match=r"members\.cnn\.digest: cnn\.safetensors has sha256:"):
        load_spec(tmp_path / "spec.yaml")


def test_checking_a_spec_imports_neither_torch_nor_ray(tmp_path):
    save_spec(parse_spec(VALID), tmp_path / "spec.yaml")
    program = (
        "import sys; from quorate.deployments import load_spec; load_spec(sys.argv[1]);"
        "assert not {'torch', 'ray', 'sklearn'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "spec.yaml")], check=True)


def test_the_revision_names_the_fusion_and_not_the_serving():
    spec = parse_spec(VALID)
    assert parse_spec(change("fusion.weights.cnn", 0.4)).revision != spec.revision
    assert parse_spec(change("serving", {"max_batch_size": 3})).revision == spec.revision
    assert parse_spec(change("fusion.weights.cnn", 0.4)).wiring == spec.wiring


def test_infinity_in_a_config_reaches_a_replica_as_it_is(tmp_path):
    config = {"low": float("-inf"), "bounds": [1.5, float("inf")], "none": None}
    found = parse_spec(change("members.cnn.config", config))
    for name in ("s.yaml", "s.json"):
        save_spec(found, tmp_path / name)
        assert load_spec(tmp_path / name).members["cnn"].config == config
    assert MemberJob.model_validate_json(found.job("cnn").model_dump_json()).member.config == config
