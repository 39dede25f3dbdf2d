"""The schema for editors, by the jsonschema package: it takes what loads, and refuses what is misspelt."""

import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from quorate import schema

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SPECS = [
    text for page in PAGES for text in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    if "\nmembers:" in text
]  # fmt: skip


@pytest.fixture(scope="module")
def validator():
    Draft202012Validator.check_schema(schema())
    return Draft202012Validator(schema())


@pytest.mark.parametrize("text", SPECS)
def test_the_specs_of_the_pages_are_valid(validator, text):
    validator.validate(yaml.safe_load(text))


SHORT = {
    "name": "s", "inputs": {"age": "FP32", "job": "BYTES"}, "classes": [1.5, True, None, "b"],
    "members": {"a": {"model": "m:f", "inputs": ["all"]}, "b": {"model": "m.onnx", "inputs": {"x:0": "age"}}},
    "fusion": {"rule": "mean"}, "online": False,
}  # fmt: skip


def test_short_forms_and_classes_that_yaml_takes_for_something_else_are_valid(validator):
    validator.validate(SHORT)
    for online in ("live", {"mode": "live", "publish_every": "1h"}):
        validator.validate({**SHORT, "online": online})


def changed(path, value):
    data = yaml.safe_load(SPECS[0])
    *parents, last = path.split(".")
    place = data
    for key in parents:
        place = place[key]
    place[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("membres", {}), ("members.cnn.wieghts", "a"), ("members.a b", {"model": "m", "inputs": ["image"]}),
        ("inputs.image", "float32"), ("inputs.image.shape", "8"), ("members.cnn.output", "logit"), ("fusions", {}),
        ("fusion.rule", "average"), ("fusion.quorum", 0), ("members.cnn.replicas.min", 0), ("members.cnn.inputs", []),
        ("name", 3.5),
    ],
)  # fmt: skip
def test_what_is_misspelt_or_of_another_type_is_refused(validator, path, value):
    assert not validator.is_valid(changed(path, value))


def test_fields_are_described_by_what_their_classes_say():
    found = schema()
    member = found["$defs"]["MemberSpec"]["properties"]
    assert member["share"]["description"].startswith("run once for all ensembles that have this member")
    assert (
        "one replica of a member has not answered"
        in (found["$defs"]["Serving"]["properties"]["max_queued_rows"]["description"])
    )
    assert found["properties"]["task"]["description"].startswith("what is asked; where it is left out")
