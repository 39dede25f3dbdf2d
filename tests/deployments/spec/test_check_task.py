"""What a task asks of the rest of a spec."""

import copy
from typing import Any

import pytest

from quorate.deployments import parse_spec
from quorate.deployments.errors import SpecError

SPEC: dict[str, Any] = {
    "name": "tagger",
    "task": "tagging",
    "inputs": {"x": {"datatype": "FP32", "shape": [-1, 3]}, "n": {"datatype": "INT32", "shape": [1]}},
    "lengths": "n",
    "classes": ["O", "B-person", "I-person"],
    "members": {
        "a": {"model": "m:f", "inputs": ["x", "n"]},
        "b": {"model": "m:f", "inputs": ["x"], "output": "probabilities"},
    },
    "fusion": {"rule": "mean"},
}


def changed(field, value):
    data = copy.deepcopy(SPEC)
    *path, last = field.split(".")
    at: Any = data
    for key in path:
        at = at[key]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return data


def test_a_tagger_is_a_spec_and_lengths_need_no_reader():
    spec = parse_spec(SPEC)
    assert (spec.job("a").of_tokens, spec.job("a").lengths, spec.job("b").lengths) == (True, "n", None)
    assert parse_spec(changed("members.a.inputs", ["x"])).lengths == "n"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("classes", ["cat", "dog"], "each I-x with its B-x; or write task: tokens"),
        ("classes", None, "there are none, and the task is tagging"),
        ("lengths", "m", "'m' is no request input"),
        ("inputs.n", {"datatype": "FP32", "shape": [1]}, "one whole number a row"),
        ("inputs.x", {"datatype": "FP32", "shape": []}, "no dimension of tokens"),
        ("members.a.output", "values", "it is tagging, but 'a' gives values"),
        ("fusion", {"rule": "threshold"}, "is for whole rows"),
        ("fusion", {"rule": "mean", "decision": {"reject_below": 0.5}}, "decision: it is of whole rows"),
        ("fusion", {"rule": "mean", "conformal": {"coverage": 0.9}}, "conformal: it is of whole rows"),
        ("fusion", {"rule": "span_vote", "options": {"size": 1}}, "no such option"),
        ("task", None, "the task is none of tokens"),
        ("task", "regression", "it is regression, but 'a' gives logits"),
        ("task", "drawing", "task"),
    ],
)
def test_what_does_not_fit_the_task_is_named_with_its_fix(field, value, said):
    with pytest.raises(SpecError, match=said):
        parse_spec(changed(field, value))


def test_a_vote_on_spans_wants_the_task():
    plain = {**SPEC, "fusion": {"rule": "span_vote"}, "lengths": None, "task": None}
    plain["inputs"] = {"x": SPEC["inputs"]["x"]}
    plain["members"] = {"a": {"model": "m:f", "inputs": ["x"]}}
    with pytest.raises(SpecError, match="write task: tagging"):
        parse_spec({key: value for key, value in plain.items() if value is not None})


def test_the_task_is_inferred_from_what_members_give_and_is_part_of_the_revision():
    digits: dict[str, Any] = {
        "name": "digits", "inputs": {"x": {"datatype": "FP32", "shape": [4]}}, "classes": ["0", "1"],
        "members": {"a": {"model": "m:f", "inputs": ["x"]}}, "fusion": {"rule": "mean"},
    }  # fmt: skip
    spec = parse_spec(digits)
    assert spec.inferred_task == "classification"
    assert parse_spec({**digits, "task": "multilabel"}).revision != spec.revision
    del digits["classes"]
    digits["members"]["a"]["output"] = "values"
    assert parse_spec(digits).inferred_task == "regression"
