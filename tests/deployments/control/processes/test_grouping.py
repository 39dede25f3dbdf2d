"""Which members share a process, and which are run inside of the doors, from what was measured."""

import pytest

from quorate.deployments.control.processes.grouping import INSIDE_BYTES, group_members, measured_for, resources_of
from quorate.deployments.records.measurements import Measured, Measurements
from tests.deployments.spec.test_check_placement import spec

SHORT, LONG = Measured(2e-5, 1 << 20), Measured(5e-3, 1 << 20)


def measured(**members):
    return Measurements(1e-4, members, dict.fromkeys(members, "job"))


def groups(spec, **members):
    """The groups, those inside behind a plus."""
    found = group_members(spec, measured(**members))
    return {"".join(group.members) + "+" * group.inside for group in found}


def test_members_are_apart_unless_they_are_asked_together():
    assert groups(spec(), a=SHORT, b=SHORT, c=SHORT) == {"a", "b", "c"}


def test_together_has_the_short_ones_inside_and_the_others_in_one_process():
    assert groups(spec(placement="together"), a=SHORT, b=LONG, c=LONG) == {"a+", "bc"}
    assert groups(spec(placement="together"), a=SHORT, b=SHORT, c=SHORT) == {"abc+"}
    assert groups(spec(placement="together")) == {"abc"}  # nothing is known of them


def test_auto_leaves_alone_what_takes_longer_than_a_message_and_what_is_not_known():
    assert groups(spec(placement="auto"), a=SHORT, b=LONG) == {"a+", "b", "c"}
    assert groups(spec(placement="auto"), a=SHORT, b=SHORT, c=LONG) == {"ab+", "c"}


def test_auto_has_those_in_one_process_that_share_a_gpu():
    parts = {"a": {"resources": {"num_gpus": 0.5}}, "b": {"resources": {"num_gpus": 0.5}}}
    assert groups(spec(parts, placement="auto"), c=LONG) == {"ab", "c"}
    parts["c"] = {"resources": {"num_gpus": 0.5}}
    assert groups(spec(parts, placement="auto")) == {"ab", "c"}  # one GPU has room for two


def test_lists_and_apart_hold_whatever_placement_says():
    assert groups(spec(together=[["a", "b"]]), a=LONG, b=LONG, c=SHORT) == {"ab", "c"}
    assert groups(spec(together=[["a", "b"]]), a=SHORT, b=LONG) == {"a+", "b", "c"}
    assert groups(spec(placement="together", apart=["b"]), a=SHORT, b=SHORT, c=SHORT) == {"ac+", "b"}


@pytest.mark.parametrize(
    "more",
    [
        {"max_memory_bytes": 1 << 30},
        {"replicas": {"max": 2}},
        {"resources": {"labels": {"zone": "b"}}},
        {"python": "/env/bin/python"},
        {"share": True},
        {"model": "http://far:8000/v2/models/m"},
    ],
)
def test_what_doors_cannot_keep_is_never_inside(more):
    assert groups(spec({"b": more}, placement="together"), a=SHORT, b=SHORT, c=SHORT) == {"ac+", "b"}


def test_what_is_inside_has_room_in_every_door():
    large = Measured(2e-5, INSIDE_BYTES // 2 + 1)
    assert groups(spec(placement="together"), a=large, b=large, c=SHORT) == {"ac+", "b"}


def test_only_what_decides_is_measured():
    assert measured_for(spec()) == []
    assert measured_for(spec(together=[["a", "b"]])) == ["a", "b"]
    limited = {"b": {"max_memory_bytes": 1 << 30}}
    assert measured_for(spec(limited, placement="together")) == ["a", "c"]
    assert measured_for(spec(limited, placement="auto")) == ["a", "b", "c"]
    assert measured_for(spec({"b": {"resources": {"num_gpus": 0.5}}}, placement="auto", apart=["c"])) == ["a"]


def test_a_process_holds_what_its_members_ask_for():
    parts = {name: {"resources": {"num_gpus": 0.3, "num_cpus": 1}} for name in "abc"}
    held = resources_of(spec(parts, together=[["a", "b", "c"]]), ["a", "b", "c"])
    assert (held.num_gpus, held.num_cpus) == (0.9, 3.0)


def test_what_was_measured_comes_back_from_the_record():
    found = measured(a=SHORT, b=LONG)
    assert Measurements.from_json(found.to_json()) == found
