"""What is said of a spec that asks for something that cannot come of it."""

from pathlib import Path

import pytest

from quorate.deployments import parse_spec
from quorate.deployments.spec.model_files.notes import notes


def said(model="a:b", stack=True, **more):
    member = {"model": model, "inputs": ["x"], "output": "values", **({} if stack is None else {"stack": stack})}
    spec = {
        "name": "noted",
        "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "members": {"one": member, "other": member},
        "fusion": {"rule": "mean"},
        **more,
    }
    return notes(parse_spec(spec), Path())


@pytest.mark.parametrize("more", [{"placement": "together"}, {"placement": "auto"}, {"together": [["one", "other"]]}])
def test_members_that_may_share_a_process_may_be_stacked(more):
    assert said(**more) == ()
    assert said(stack=False) == said(stack=None) == ()


def test_members_with_processes_of_their_own_are_no_stack():
    text = "members.one: stack: true is for members that share a process; write placement: together"
    assert said() == (text, text.replace("one", "other"))
    assert said(placement="together", apart=["one"]) == (text,)


def test_programs_are_not_stacked():
    found = said("net.pt", placement="together")[0]
    assert found == "members.one: stack: true is for networks that factories build; net.pt runs by itself"
