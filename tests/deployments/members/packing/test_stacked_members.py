"""Members of one architecture run as one, and give what each gives by itself."""

import copy
import math
import sys

import numpy as np
import pytest
import torch
from torch import nn

from quorate.deployments import parse_spec
from quorate.deployments.members.member_group import MemberGroup, Question
from quorate.deployments.members.packing.alike import stack_members
from quorate.deployments.members.packing.choice import Choice
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.sources.model import Model
from quorate.deployments.transport.row_state import RowState

CPU = torch.device("cpu")


def member(network, shape=(8,), datatype="FP32", **fields):
    name = fields.get("inputs", ["x"])[0]
    spec = parse_spec(
        {
            "name": "stacked",
            "inputs": {name: {"datatype": datatype, "shape": shape}},
            "members": {
                "m": {"model": "a:b", "inputs": [name], "max_batch_size": 4, "output": "values", **fields},
            },
            "fusion": {"rule": "mean"} if fields.get("output", "values") == "values" else {"rule": "concat"},
        }
    )
    return Predictor(Model("m", spec.members["m"], network.eval(), CPU, tensors=True), spec.job("m"))


def perceptron(seed, width=16, bias=True):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, width, bias), nn.ReLU(), nn.Linear(width, 3))


class Convolutional(nn.Module):
    """With what behaves in another way while it trains, and buffers."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Dropout(0.5), nn.Flatten())
        self.head = nn.Linear(4 * 6 * 6, 3)
        self.register_buffer("shift", torch.randn(3))

    def forward(self, x):
        return self.head(self.layers(x)) + self.shift


class Attentive(nn.Module):
    """Attention in half precision, its last layer in single."""

    def __init__(self):
        super().__init__()
        self.norm, self.reads = nn.LayerNorm(8), nn.Linear(8, 24).to(torch.bfloat16)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        query, key, value = self.reads(self.norm(x).to(torch.bfloat16)).chunk(3, dim=-1)
        return self.head(((query @ key.transpose(1, 2)).softmax(dim=-1) @ value).mean(1).float())


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layer(x).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTM(8, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x):
        found = self.layer(x)
        return found if found.sum() > 0 else -found


class Named(nn.Module):
    """Gives several outputs, as models of transformers do."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x):
        found = self.layer(x)
        return {"logits": found, "hidden": found.relu()}


def seeded(make, count):
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        network = make()
        for buffer in network.buffers():
            if buffer.dtype.is_floating_point:
                buffer.copy_(torch.rand_like(buffer) + 0.5)
        found.append(network)
    return found


def alone(members, inputs):
    return [member.model.predict(inputs) for member in members]


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: perceptron(torch.initial_seed()), (8,)),
        (Convolutional, (1, 8, 8)),
        (Attentive, (5, 8)),
    ],
    ids=["perceptron", "convolutional", "attentive"],
)
@pytest.mark.parametrize("stack", [None, True])
def test_members_of_one_architecture_give_together_what_each_gives_alone(make, shape, stack):
    members = [member(network, shape, stack=stack) for network in seeded(make, 3)]
    rng = np.random.default_rng(0)
    batches = [{"x": rng.normal(size=(rows, *shape)).astype(np.float32)} for rows in (1, 2, 3, 7) for _ in range(4)]
    expected = [alone(members, batch) for batch in batches]
    (stacked,), why = stack_members(members)
    assert (stacked.places, why) == ((0, 1, 2), {})
    for batch, right in zip(batches, expected, strict=True):
        found = stacked.run(batch)
        assert [one.dtype for one in found] == [one.dtype for one in right]
        if stack is None:
            np.testing.assert_array_equal(found, right)
        else:
            np.testing.assert_allclose(found, right, atol=5e-2 if make is Attentive else 1e-5)


def test_a_model_of_transformers_is_stacked_and_its_logits_are_taken():
    # One for another torch keeps transformers from importing any model.
    sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, num_labels=3,
        attn_implementation="eager",
    )  # fmt: skip
    networks = seeded(lambda: transformers.BertForSequenceClassification(config), 2)
    ids = {"input_ids": np.arange(12, dtype=np.int64).reshape(2, 6)}
    fields = {"inputs": ["input_ids"], "output_name": "logits", "stack": True}
    members = [member(network, (6,), "INT64", **fields) for network in networks]
    expected = alone(members, ids)
    (stacked,), _ = stack_members(members)
    np.testing.assert_allclose(stacked.run(ids), expected, atol=1e-5)


def test_one_output_of_several_is_taken():
    members = [member(network, output_name="logits") for network in seeded(Named, 2)]
    rows = {"x": np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)}
    expected = alone(members, rows)
    (stacked,), _ = stack_members(members)
    np.testing.assert_array_equal(stacked.run(rows), expected)


@pytest.mark.parametrize(
    ("make", "shape", "reason"),
    [
        (Recurrent, (5, 8), "vmap cannot run its LSTM"),
        (Encoder, (5, 8), "vmap has no batched form of aten::_transformer_encoder_layer_fwd"),
        (Branching, (8,), "vmap cannot run it (RuntimeError: vmap: It looks like you're attempting to use"),
        (lambda: torch.jit.trace(perceptron(0), torch.zeros(2, 8)), (8,), "it is a TorchScript program"),
        (lambda: nn.Sequential(torch.fx.symbolic_trace(perceptron(0))), (8,), "it is an exported program"),
    ],
    ids=["recurrent", "encoder", "branching", "torchscript", "exported"],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_what_cannot_be_stacked_runs_one_by_one_and_says_why(make, shape, reason):
    members = [member(make(), shape), member(make(), shape)]
    rows = {"x": np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)}
    expected = alone(members, rows)
    found, why = stack_members(members)
    assert not found
    assert [text.startswith(reason) for text in why.values()] == [True, True], why
    np.testing.assert_array_equal(alone(members, rows), expected)


class Attributed(nn.Module):
    def __init__(self, slope):
        super().__init__()
        self.layer, self.slope = nn.Linear(8, 3), slope

    def forward(self, x):
        return self.slope * self.layer(x)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (perceptron(0), perceptron(1, width=17)),
        (perceptron(0), perceptron(1, bias=False)),
        (nn.LayerNorm(8), nn.LayerNorm(8, eps=1e-3)),
        (Attributed(1.0), Attributed(2.0)),
        (perceptron(0), perceptron(1).double()),
    ],
    ids=["width", "bias", "epsilon", "attribute", "type"],
)
def test_networks_that_differ_in_more_than_numbers_are_not_one_architecture(one, other):
    found, why = stack_members([member(one), member(other)])
    assert not found
    assert set(why.values()) == {"no other is of its architecture and reads the same"}


@pytest.mark.parametrize("fields", [{"inputs": ["y"]}, {"output": "features"}, {"stack": True}])
def test_members_that_read_or_give_something_else_are_no_stack(fields):
    assert not stack_members([member(perceptron(0)), member(perceptron(1), **fields)])[0]


def test_a_member_may_stay_out_of_it():
    members = [member(perceptron(at), stack=False if at == 1 else None) for at in range(3)]
    (stacked,), why = stack_members(members)
    assert (stacked.places, why) == ((0, 2), {1: "stack: false"})


def test_two_members_of_one_checkpoint_are_computed_once_and_have_arrays_of_their_own():
    first = perceptron(0)
    calls = []
    members = [member(first), member(copy.deepcopy(first))]
    (stacked,), _ = stack_members(members)
    assert "2 of one checkpoint are computed once" in stacked.how
    for one in members:
        one.model.network.register_forward_hook(lambda *_: calls.append(1))
    rows = {"x": np.ones((2, 8), np.float32)}
    one, other = stacked.run(rows)
    assert len(calls) == 1
    np.testing.assert_array_equal(one, other)
    one[:] = 0
    assert other.any()


def test_a_way_that_changes_a_bit_is_not_taken_however_fast():
    x = torch.ones(2, 3)
    choice = Choice(lambda rows: [rows[0] * 3], lambda rows: [rows[0] * 3 + 1e-6])
    assert choice.settle([x]).startswith("one by one, since bits would differ")
    assert torch.equal(choice([x])[0], x * 3)


def test_nothing_is_held_twice_once_networks_are_stacked():
    members = [member(perceptron(at)) for at in range(3)]
    stack_members(members)
    weights = [one.model.network[0].weight for one in members]
    assert len({weight.untyped_storage().data_ptr() for weight in weights}) == 1
    assert weights[0].untyped_storage().nbytes() == 3 * weights[0].nbytes


def asked(group, rows, of=None):
    """What the members of a group answer, by place: values, states."""
    places = range(len(group.members)) if of is None else of
    questions = [Question(place, [rows], False, math.inf, shared=True) for place in places]
    return {questions[one.question].member: (one.values, one.status) for one in group.run(questions)}


def test_a_group_answers_with_its_stack_what_each_member_answers_alone():
    members = [member(perceptron(at), stack=True) for at in range(3)]
    x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    expected = alone(members, {"x": x})
    group = MemberGroup(members)
    assert [stack.places for stack in group.stacks] == [(0, 1, 2)]
    for of in (None, [0, 2]):
        for place, (values, status) in asked(group, x, of).items():
            np.testing.assert_allclose(values, expected[place], atol=1e-6)
            assert not status.any()


def test_rows_that_one_member_of_a_stack_cannot_give_are_missing_of_that_member_alone():
    networks = [perceptron(0), perceptron(1)]
    with torch.no_grad():
        networks[1][2].bias[0] = math.inf
    group = MemberGroup([member(network, stack=True) for network in networks])
    found = asked(group, np.ones((2, 8), np.float32))
    assert [set(status) for _, status in found.values()] == [{RowState.OK}, {RowState.NONFINITE}]


def test_a_stack_that_fails_leaves_its_members_to_answer_one_by_one():
    members = [member(perceptron(at), stack=True) for at in range(2)]
    group = MemberGroup(members)
    x = np.ones((2, 9), np.float32)  # a width that none of them takes
    found = asked(group, x)
    assert all((status == RowState.ERROR).all() for _, status in found.values())
    assert all("mat1 and mat2" in one.last_error for one in members)
    assert not any(status.any() for _, status in asked(group, x[:, :8]).values())


def test_members_that_are_asked_about_different_rows_are_not_run_as_one():
    group = MemberGroup([member(perceptron(0), stack=True), member(perceptron(0), stack=True)])
    rows = [np.full((2, 8), number, np.float32) for number in (1, 2)]
    questions = [Question(place, [rows[place]], False, math.inf) for place in (0, 1)]
    one, other = (outcome.values for outcome in group.run(questions))
    assert one is not None
    assert other is not None
    assert not np.array_equal(one, other)
