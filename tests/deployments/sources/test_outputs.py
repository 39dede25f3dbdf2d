"""One output of several: by its name in the spec, by what the spec says it holds, or refused with all names."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from quorate.deployments import parse_spec
from quorate.deployments.errors import MemberLoadError
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.sources.model import Model

ROWS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
Aux = namedtuple("Aux", ["logits", "aux_logits"])


@dataclass
class Found:
    scores: torch.Tensor
    hidden: torch.Tensor | None = None


class ModelOutput(OrderedDict):
    """As transformers has it: a dict, without what is None."""


def predictor(function, classes=("a", "b", "c"), tensors=True, own=None, **words):
    spec = parse_spec(
        {
            "name": "one",
            "inputs": {"x": {"datatype": "FP32", "shape": [3]}},
            "classes": list(classes) if classes else None,
            "members": {"m": {"model": "a:b", "inputs": ["x"], "classes": own, **words}},
            "fusion": {"rule": "mean"},
        }
    )
    job = spec.job("m")
    return Predictor(Model("m", job.member, function, torch.device("cpu"), tensors), job)


def ran(function, **words):
    found = predictor(function, **words)
    found.warm_up()
    return found.run({"x": ROWS}, probabilities=False)[0]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: {"logits": 2 * x},
        lambda x: {"anything": 2 * x},
        lambda x: ModelOutput(loss=x.sum(), logits=2 * x, past_key_values=((x, x),)),
        lambda x: Aux(2 * x, x),
        lambda x: (2 * x,),
        lambda x: Found(2 * x),
    ],
)
def test_the_only_tensor_or_the_logits_are_what_a_member_gives(function):
    np.testing.assert_array_equal(ran(function), 2 * ROWS)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: {"logits": x, "aux": 2 * x}, "aux"),
        (lambda x: (x, 2 * x), "1"),
        (lambda x: (x, 2 * x), 1),
        (lambda x: [x, 2 * x], "1"),
        (lambda x: Aux(x, 2 * x), "aux_logits"),
        (lambda x: Found(x, 2 * x), "hidden"),
    ],
)
def test_an_output_is_taken_by_its_name(function, name):
    np.testing.assert_array_equal(ran(function, output_name=name), 2 * ROWS)


@pytest.mark.parametrize(
    ("function", "words", "sentence"),
    [
        (lambda x: (x, x), {}, r"gives 0 \(\[2, 3\] float32\), 1 \(.*\); say which .* output_name: 0, or another"),
        (lambda x: {"out": x, "aux": x.half()}, {}, r"gives out \(\[2, 3\] float32\), aux \(\[2, 3\] float16\); say"),
        (lambda x: {"logits": x, "hidden": x}, {"output": "probabilities"}, r"gives logits .*, hidden .*; say which"),
        (lambda x: {"logits": x}, {"output": "probabilities"}, r"says output: probabilities; write output: logits, or"),
        (lambda x: {"probabilities": x}, {}, r"output: logits; write output: probabilities, or output_name: proba"),
        (lambda x: {"out": x}, {"output_name": "logits"}, r"no output 'logits'; it gives out \(\[2, 3\] float32\)"),
        (lambda x: x, {"output_name": "logits"}, "one output without a name; remove output_name: logits"),
        (lambda x: {}, {}, "the model gives no output"),
    ],
)
def test_what_is_not_clear_is_refused_with_all_names(function, words, sentence):
    with pytest.raises(MemberLoadError, match=sentence):
        predictor(function, **words).warm_up()


def test_rows_of_names_and_numbers_are_put_in_the_order_of_the_classes():
    def named(x):
        return [{2.0: c, "0": a, 1: b} for a, b, c in x]

    got = ran(named, classes=("0", "1", "2"), tensors=False, output="probabilities")
    np.testing.assert_array_equal(got, ROWS)


def test_rows_that_name_other_classes_are_refused_unless_the_spec_renames_them():
    def named(x):
        return [{"n": a, "p": b} for a, b, _ in x]

    with pytest.raises(MemberLoadError, match=r"model's classes are n, p, and the ensemble's a, b; give the member"):
        predictor(named, classes=("a", "b"), tensors=False).warm_up()
    np.testing.assert_array_equal(ran(named, classes=("a", "b"), tensors=False, own=["b", "a"]), ROWS[:, :2])


class Half(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.layer = nn.Linear(3, 3).to(dtype)

    def forward(self, x):
        assert x.dtype == self.layer.weight.dtype
        return self.layer(x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_module_in_half_precision_reads_rows_of_its_own_type_and_gives_float32(dtype):
    module = Half(dtype).eval()
    expected = module(torch.from_numpy(ROWS).to(dtype)).float().detach().numpy()
    np.testing.assert_array_equal(ran(module), expected)


def test_fused_values_have_the_shape_that_members_give(open_doors):
    import quorate

    member = {"model": "torch.nn:Identity", "inputs": ["x"], "output": "values"}
    inputs = {"x": {"datatype": "FP32", "shape": [-1, 3]}}
    spec = {"name": "shaped", "inputs": inputs, "members": {"a": member, "b": member}, "fusion": {"rule": "mean"}}
    rows = np.random.default_rng(1).normal(size=(2, 5, 3)).astype(np.float32)
    with quorate.Client(open_doors(spec).http, model="shaped") as client:
        np.testing.assert_allclose(client.infer(x=rows).outputs["fused"], rows, rtol=1e-6)
