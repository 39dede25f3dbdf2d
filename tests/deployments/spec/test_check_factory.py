"""What is known of a factory from its source, before anything runs."""

import pytest

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.checks.check_factory import check_factory
from quorate.deployments.spec.schema import MemberSpec

CODE = """
import numpy as np
from os.path import join as joined
raise_if_run = 1 / 0

def build(width, depth=2, *, bias): ...
def whole(config): ...
def anything(**settings): ...
class Net:
    def __init__(self, width): ...
class Child(Net): ...
@joined
def decorated(a): ...
try:
    import torch
    def either(x): ...
except ImportError:
    either = None
first, (second, third) = 1, (2, 3)
with open("x") as file:
    inner = 1
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "checked.py").write_text(CODE)
    (tmp_path / "dynamic.py").write_text("globals()['made'] = 1")
    (tmp_path / "starred.py").write_text("from checked import *")
    (tmp_path / "broken.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "inner.py").write_text("def build(): ...")
    return tmp_path


def check(folder, model, **config):
    check_factory("members.m", MemberSpec(model=model, config=config, inputs=("x",)), folder)


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("checked:build", {"width": 1, "bias": True}),
        ("checked:whole", {"any": 1}),
        ("checked:anything", {"any": 1}),
        ("checked:Net", {"width": 1}),
        ("checked:Child", {"any": 1}),
        ("checked:decorated", {"any": 1}),
        ("checked:either", {"x": 1}),
        ("checked:third", {}),
        ("checked:inner", {}),
        ("checked:joined", {}),
        ("checked:Net.anything", {"any": 1}),
        ("dynamic:made", {}),
        ("starred:build", {}),
        ("pack:inner.build", {}),
        ("pack.inner:build", {}),
        ("torch.nn:Linear", {"wrong": 1}),
        ("quorate.tuning.architectures:build", {"any": 1}),
    ],
)
def test_what_is_there_or_may_be_made_as_the_module_runs_passes(folder, model, config):
    check(folder, model, **config)


@pytest.mark.parametrize(
    ("model", "config", "said"),
    [
        ("checked:biuld", {}, "members.m.model: checked has no 'biuld'; did you mean 'build'?"),
        ("checked:zzz", {}, "members.m.model: checked has no 'zzz'; choose from Child, Net, anything, build, "),
        ("pack:build", {}, "members.m.model: pack has no 'build'; define it there"),
        ("broken:f", {}, "members.m.model: broken.py is not Python at line 2: invalid syntax; correct it"),
        ("checked:build", {"wdith": 1}, "members.m.config.wdith: checked:build has no such parameter; did you"),
        ("checked:build", {"width": 1}, "members.m.config: checked:build needs 'bias'; write config: {bias: ...}"),
        ("checked:Net", {}, "members.m.config: checked:Net needs 'width'; write config: {width: ...}"),
        ("pack.inner:build", {"a": 1}, "members.m.config.a: pack.inner:build has no such parameter; remove it"),
    ],
)  # fmt: skip
def test_what_is_not_is_said_with_what_is_meant(folder, model, config, said):
    with pytest.raises(SpecError) as raised:
        check(folder, model, **config)
    assert str(raised.value).startswith(said)
