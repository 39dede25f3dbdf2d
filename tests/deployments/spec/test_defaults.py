"""Members and deadlines that a spec leaves out."""

from typing import Any

import pytest

from quorate.deployments import parse_spec
from quorate.deployments.errors import SpecError
from quorate.deployments.spec.defaults import with_all_inputs, with_default_fusion_members, with_inner_deadlines


def test_a_fusion_without_members_takes_those_that_nothing_else_reads():
    members = {"encoder": {"inputs": ["x"]}, "head": {"inputs": ["encoder"]}, "other": {"inputs": ["x"]}}
    filled = with_default_fusion_members({"members": members, "fusion": {"rule": "mean"}})
    assert filled["fusion"]["members"] == ["head", "other"]


def chain(**inner):
    """A member, a fusion, a member, a fusion: the answer."""
    return {
        "members": {"a": {"inputs": ["x"]}, "b": {"inputs": ["inner"]}},
        "fusions": {
            "inner": {"rule": "mean", "members": ["a"], **inner},
            "answer": {"rule": "mean", "members": ["b"], "deadline_s": 3.0},
        },
    }


def test_an_inner_fusion_waits_for_its_share_of_the_answers_deadline():
    assert with_inner_deadlines(chain())["fusions"]["inner"]["deadline_s"] == 1.5
    assert with_inner_deadlines(chain(deadline_s=0.5))["fusions"]["inner"]["deadline_s"] == 0.5


@pytest.mark.parametrize("fill", [with_all_inputs, with_default_fusion_members, with_inner_deadlines])
@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"members": 3, "fusion": 3},
        {"members": {"a": 3}, "fusion": {"members": ["a"]}},
        {"members": {"a": {"inputs": ["b"]}, "b": {"inputs": ["a"]}}, "fusions": {"f": {"members": ["a"]}}},
        {"members": {"a": {"inputs": [{}]}}, "fusions": {"f": {"members": 3}}, "output": "g"},
        {"members": {"a": {"inputs": ["x"]}}, "fusions": {"f": {"members": ["a"], "deadline_s": "soon"}}},
    ],
)
def test_what_is_no_spec_is_left_for_the_checks(fill, data):
    assert fill(data) == data


SHORT: dict[str, Any] = {
    "name": "s", "inputs": {"age": "FP32", "job": "BYTES"}, "classes": ["a", "b"],
    "members": {"a": {"model": "torch.nn:Identity", "inputs": ["all"]}}, "fusion": {"rule": "mean"},
}  # fmt: skip


def test_a_member_of_all_inputs_reads_them_in_the_order_of_the_spec():
    spec = parse_spec(SHORT)
    assert spec.members["a"].inputs == ("age", "job")
    assert (spec.inputs["age"].datatype, spec.inputs["age"].shape) == ("FP32", ())
    head = {"model": "torch.nn:Identity", "inputs": ["all", "a"]}
    stacked = parse_spec({**SHORT, "members": {**SHORT["members"], "head": head}})
    assert stacked.members["head"].inputs == ("age", "job", "a")
    assert stacked.output_fusion.members == ("head",)
    written_out = {"a": {"model": "torch.nn:Identity", "inputs": ["age", "job"]}}
    assert parse_spec({**SHORT, "members": written_out}).revision == spec.revision


def test_an_input_that_is_called_all_is_meant_by_its_name():
    assert parse_spec({**SHORT, "inputs": {"all": "FP32"}}).members["a"].inputs == ("all",)


def test_a_type_of_numpy_is_told_its_name_in_the_protocol():
    with pytest.raises(SpecError, match=r"inputs\.age\.datatype: found 'float32'; did you mean 'FP32'"):
        parse_spec({**SHORT, "inputs": {"age": "float32"}})
