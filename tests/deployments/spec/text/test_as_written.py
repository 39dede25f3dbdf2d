"""Specs as they are written: names of classes and keys keep their text, whatever YAML takes them for."""

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.deployments import load_spec, parse_spec
from quorate.deployments.errors import SpecError
from quorate.deployments.spec.files import dump_spec, save_spec

SPEC = """name: s
inputs: {x: {datatype: FP32, shape: [2]}}
classes: %s
members:
  a: {model: "torch.nn:Identity", inputs: [x], output: probabilities%s}
fusion: {rule: mean}
"""


def loaded(tmp_path, text, name="spec.yaml"):
    (tmp_path / name).write_text(text)
    return load_spec(tmp_path / name)


@pytest.mark.parametrize(
    "words",
    [
        "010, 011", "12:30, 13:45", "1.10, 1.20", "0x1F, 0x20", "1_000, 2_000", "no, yes", "1e3, 1e4", "~, null",
        "true, false", "2020-01-01, .inf", "+1, -0", "'a b', c", "=, <", "0o7, 0b1",
    ],
)  # fmt: skip
def test_class_names_are_the_text_of_the_file(tmp_path, words):
    spec = loaded(tmp_path, SPEC % (f"[{words}]", ""))
    assert spec.classes == tuple(word.strip("'") for word in words.split(", "))
    save_spec(spec, tmp_path / "again.yaml")
    save_spec(spec, tmp_path / "again.json")
    assert load_spec(tmp_path / "again.yaml") == load_spec(tmp_path / "again.json") == spec


def test_names_of_members_and_keys_of_classes_are_the_text_of_the_file(tmp_path):
    text = SPEC.replace("  a: {", "  yes: {").replace("rule: mean", "rule: mean, members: [yes], %s") % (
        "[010, 1.10]",
        "",
        "weights: null, decision: {thresholds: {010: 0.5, 1.10: 1e-1}}, calibration: {bias: {010: 1, 1.10: -1}}",
    )
    spec = loaded(tmp_path, text)
    assert list(spec.members) == ["yes"]
    assert spec.output_fusion.weights is None
    assert spec.output_fusion.decision.thresholds == {"010": 0.5, "1.10": 0.1}
    assert spec.output_fusion.calibration.bias == {"010": 1, "1.10": -1}


def test_a_config_has_numbers_as_yaml_1_2_reads_them_and_keys_as_text(tmp_path):
    config = "{a: 1e-3, b: 7, c: null, d: true, 1: 0x1F, e: 2020-01-01, f: [.inf, -1.5], g: '010', h: !!str 5, i: ~}"
    spec = loaded(tmp_path, SPEC % ("[u, v]", f", config: {config}"))
    assert spec.members["a"].config == {
        "a": 1e-3, "b": 7, "c": None, "d": True, "1": 31, "e": "2020-01-01", "f": [float("inf"), -1.5], "g": "010",
        "h": "5", "i": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("word", "readings"),
    [
        ("010", "10 or for 8"),
        ("12:30", "'12:30' or for 750"),
        ("no", "'no' or for False"),
        ("1_0", "'1_0' or for 10"),
    ],
)
def test_what_one_reader_of_yaml_takes_for_this_and_another_for_that_is_refused_in_a_config(tmp_path, word, readings):
    with pytest.raises(SpecError) as error:
        loaded(tmp_path, SPEC % ("[u, v]", f", config: {{deep: [{word}]}}"))
    said = f"members.a.config.deep.0: found {word} (line 5, column 87), which readers of YAML take for {readings}"
    assert said in str(error.value)


def test_a_switch_may_be_yes_and_merged_keys_may_be_overridden(tmp_path):
    text = SPEC % ("[u, v]", ", share: yes")
    text = text.replace(
        "members:\n", "members:\n  b: {<<: &base {model: 'torch.nn:Identity', inputs: [x]}, output: logits}\n"
    )
    assert loaded(tmp_path, text).members["a"].share is True
    assert loaded(tmp_path, text).members["b"].output == "logits"


DATA = yaml.safe_load(SPEC % ("[u, v]", ""))


def test_json_keeps_numbers_as_they_are_written_and_names_what_is_wrong(tmp_path):
    text = json.dumps(DATA).replace('["u", "v"]', "[1.10, 20]")
    assert loaded(tmp_path, text, "spec.json").classes == ("1.10", "20")
    for broken, said in (
        (
            text.replace('"name": "s"', '\n"name": "s", "name": "t"'),
            r"name: the key is given twice \(line 2, column 14\)",
        ),
        (text[:-1], r"spec\.json: not JSON at line 1, column [0-9]+"),
        ("[1]", "the file holds no mapping"),
    ):
        with pytest.raises(SpecError, match=said):
            loaded(tmp_path, broken, "spec.json")


TOML = """
name = "s"
classes = [1.10, 20]
inputs.x = {datatype = "FP32", shape = [2]}
fusion.rule = "mean"
[members.010]
model = "torch.nn:Identity"
inputs = ["x"]
output = "probabilities"
"""


def test_toml_is_read_and_not_written(tmp_path):
    spec = loaded(tmp_path, TOML, "spec.toml")
    assert spec.classes == ("1.10", "20")
    assert list(spec.members) == ["010"]
    with pytest.raises(SpecError, match=r"spec\.toml: not TOML: .*line 3"):
        loaded(tmp_path, TOML.replace("classes", "name"), "spec.toml")
    with pytest.raises(SpecError, match="TOML is read and not written"):
        save_spec(spec, tmp_path / "other.toml")


def test_aliases_that_multiply_are_refused_in_little_time(tmp_path):
    bomb = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12))
    with pytest.raises(SpecError, match="it has over 200000 values"):
        loaded(tmp_path, f"l0: &l0 [x]\n{bomb}")


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)
ODD = st.sampled_from(
    ["1e3", "0o17", "+.inf", "12:30", "yes", "~", "null", "0x1F", "1_0", "=", "<<", "-", "1.", ".5", "1e-3"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | ODD, inner, max_size=3), max_leaves=6,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    classes=st.lists(WORDS | ODD, min_size=1, max_size=4, unique=True),
    config=st.dictionaries(WORDS | ODD, VALUES, max_size=4),
)
def test_what_is_written_is_read_as_the_same(tmp_path_factory, classes, config):
    spec = parse_spec({**DATA, "classes": classes, "members": {"a": {**DATA["members"]["a"], "config": config}}})
    folder = tmp_path_factory.getbasetemp()
    assert loaded(folder, dump_spec(spec)) == spec
    save_spec(spec, folder / "spec.json")
    assert load_spec(folder / "spec.json") == spec
