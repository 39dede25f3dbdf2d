"""Which members may share a process, and what is said of those that may not."""

import pytest

from quorate.deployments import parse_spec
from quorate.deployments.errors import SpecError


def spec(members=None, **placed):
    given = {name: {"model": "torch.nn:Identity", "inputs": ["x"]} for name in "abc"}
    for name, more in (members or {}).items():
        given[name] |= more
    return parse_spec(
        {
            "name": "placed",
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "classes": ["red", "green"],
            "members": given,
            "fusion": {"rule": "mean"},
            **placed,
        }
    )


@pytest.mark.parametrize(
    ("members", "placed", "says"),
    [
        ({}, {"together": [["a", "d"]]}, r"together\[0\]: 'd' is no member"),
        ({}, {"together": [["a"]]}, r"together"),
        ({}, {"together": [["a", "b"], ["b", "c"]]}, r"together\[1\]: 'b' is in together\[0\] too"),
        ({}, {"together": [["a", "b"]], "apart": ["b"]}, r"apart: 'b' is in together\[0\] too"),
        ({}, {"placement": "inside"}, "placement"),
        ({"b": {"share": True}}, {"together": [["a", "b"]]}, r"'b' has share: true"),
        ({"b": {"python": "/env/bin/python"}}, {"together": [["a", "b"]]}, r"'b' runs in another interpreter"),
        (
            {"b": {"model": "http://far:8000/v2/models/m"}},
            {"together": [["a", "b"]]},
            r"'b' is run by another server",
        ),
        ({"b": {"replicas": {"max": 2}}}, {"together": [["a", "b"]]}, r"'a' and 'b' have different replicas"),
        ({"b": {"max_memory_bytes": 1 << 30}}, {"together": [["a", "b"]]}, r"have max_memory_bytes and none"),
        ({"b": {"resources": {"num_gpus": 1}}}, {"together": [["a", "b"]]}, r"ask for a GPU and for none"),
        (
            {"a": {"resources": {"labels": {"zone": "b"}}}},
            {"together": [["a", "b"]]},
            r"have different resources.labels",
        ),
        (
            {name: {"resources": {"num_gpus": 0.6}} for name in "ab"},
            {"together": [["a", "b"]]},
            r"ask for 1.2 GPUs together, and one process computes on one",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_words(members, placed, says):
    with pytest.raises(SpecError, match=says):
        spec(members, **placed)


def test_where_members_run_is_another_revision_and_changes_neither_doors_nor_what_members_are_told():
    apart, together = spec(), spec(placement="together", apart=["c"])
    assert apart.revision != together.revision
    assert apart.wiring == together.wiring
    assert apart.job("a") == together.job("a")


def test_names_of_specs_without_placement_are_what_they_were():
    assert not {"placement", "together", "apart"} & spec().model_dump(mode="json").keys()
    assert spec(placement="apart", together=[], apart=[]).revision == spec().revision
