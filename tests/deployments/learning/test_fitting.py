"""Which revisions can be computed on what the live one's members give."""

from typing import Any

import pytest

from quorate.deployments import parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.deployments.learning.shadows.fitting import misfit, own_members
from tests.deployments.support.member_threads import FACTORIES


def member(shift=1, **more):
    return {"model": "known:known", "config": {"shift": shift}, "inputs": ["x"], "output": "probabilities", **more}


LIVE: dict[str, Any] = {
    "name": "fits",
    "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
    "classes": ["red", "green", "blue"],
    "members": {"a": member(1), "b": member(2), "c": member(3)},
    "fusion": {"rule": "weighted_mean", "weights": {"a": 0.5, "b": 0.5, "c": 0.0}, "deadline_s": 5.0},
}


def revision(**changed):
    return build_revision(parse_spec({**LIVE, **changed}), FACTORIES)


def weights(**of):
    return {**LIVE["fusion"], "weights": of}


def test_other_weights_rules_and_fewer_members_fit():
    fewer = {"b": member(2)}
    for shadow in (
        revision(fusion=weights(a=0.1, b=0.9, c=0.0)),
        revision(fusion={"rule": "mean", "deadline_s": 1.0}, members={"a": member(1), "b": member(2)}),
        revision(fusion={"rule": "mean", "deadline_s": 5.0}, members=fewer),
    ):
        assert misfit(shadow, revision()) == ""


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"fusion": weights(a=0.5, b=0.3, c=0.2)}, "c gives the live fusion nothing, and is not asked for it alone"),
        ({"members": {**LIVE["members"], "b": member(7)}}, "b is not the one that runs"),
        ({"members": {**LIVE["members"], "d": member(7)}, "fusion": weights(a=1, b=0, c=0, d=0)}, "d does not run"),
        ({"classes": ["red", "green", "grey"]}, "its inputs, classes, outputs or serving"),
        ({"serving": {"max_batch_size": 7}}, "its inputs, classes, outputs or serving"),
    ],
)
def test_what_would_take_calls_or_members_of_its_own_does_not(changed, why):
    assert why in misfit(revision(**changed), revision())


def test_a_member_that_reads_another_fusion_is_another_member():
    def graph(weight):
        inner = {"rule": "weighted_mean", "members": ["a", "b"], "weights": {"a": weight, "b": 1 - weight}}
        head = {"model": "known:known", "config": {"shift": 0}, "inputs": ["inner"], "output": "probabilities"}
        return revision(
            members={"a": member(1), "b": member(2), "head": head},
            fusion=None, fusions={"inner": inner, "last": {"rule": "mean", "members": ["head", "a"]}},
        )  # fmt: skip

    assert misfit(graph(0.5), graph(0.5)) == ""
    assert "inner is not the one that runs" in misfit(graph(0.4), graph(0.5))


def test_members_that_do_not_run_are_others_or_give_nothing_are_asked_for_it_alone():
    more = {**LIVE["members"], "b": member(7), "d": member(8)}
    shadow = revision(members=more, fusion=weights(a=0.1, b=0.3, c=0.3, d=0.3))
    assert own_members(shadow, revision()) == ("b", "c", "d")
    assert misfit(shadow, revision(), ("b", "c", "d")) == ""
    assert "c gives the live fusion nothing" in misfit(shadow, revision(), ("b", "d"))


def test_a_member_of_its_own_reads_the_request_alone():
    behind = {**member(4), "inputs": ["a"]}
    members = {"a": member(1), "b": member(2), "d": behind}
    shadow = revision(members=members, fusion=weights(b=0.5, d=0.5))
    assert "d reads a" in misfit(shadow, revision(), own_members(shadow, revision()))
