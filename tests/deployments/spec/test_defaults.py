"""Members and deadlines that a spec leaves out."""

import pytest

from quorate.deployments.spec.defaults import with_default_fusion_members, with_inner_deadlines


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


@pytest.mark.parametrize("fill", [with_default_fusion_members, with_inner_deadlines])
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
