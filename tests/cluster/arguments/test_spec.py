import pytest

from quorate.cluster.arguments.spec import one_output, spec_and_folder
from quorate.deployments import parse_spec
from quorate.deployments.errors import SpecError

WORDS = {
    "name": "tiny",
    "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
    "members": {"a": {"model": "torch.nn:Linear", "inputs": ["x"]}},
    "classes": ["left", "right"],
    "fusion": {"rule": "mean"},
}


def test_a_path_a_spec_and_its_words_are_the_same_spec(tmp_path):
    (tmp_path / "spec.yaml").write_text(str(WORDS))
    spec = parse_spec(WORDS)
    assert spec_and_folder(tmp_path / "spec.yaml", None) == (spec, tmp_path)
    assert spec_and_folder(spec, tmp_path) == (spec, tmp_path)
    assert spec_and_folder(WORDS, tmp_path) == (spec, tmp_path)


def test_files_are_looked_for_below_the_folder(tmp_path):
    member = {"model": "torch.nn:Linear", "inputs": ["x"], "weights": "a.safetensors"}
    words = {**WORDS, "members": {"a": member}}
    with pytest.raises(SpecError, match=r"there is no file .*a\.safetensors"):
        spec_and_folder(words, tmp_path)
    (tmp_path / "a.safetensors").touch()
    assert spec_and_folder(words, tmp_path)[1] == tmp_path


def test_what_works_on_one_output_refuses_a_spec_of_several():
    fusions = {name: {"rule": "mean", "members": ["a"]} for name in ("one", "two")}
    several = parse_spec({key: value for key, value in WORDS.items() if key != "fusion"} | {
        "fusions": fusions, "outputs": ["one", "two"],
    })  # fmt: skip
    with pytest.raises(SpecError, match="there are several, one, two, and gains of one have no common unit"):
        one_output(several)
    assert one_output(parse_spec(WORDS)).name == "tiny"
