"""What is recorded for a GPU, on a stream of this side that records by keeping the function: buffers, sizes, choice."""

import contextlib

import numpy as np
import pytest
import torch
from torch import nn

from quorate.deployments.members.packing import alike
from quorate.deployments.members.packing.alike import stack_members
from quorate.deployments.members.packing.choice import same_bits
from quorate.deployments.members.packing.cuda_graphs import Graphs, Recording, sizes_up_to
from tests.deployments.members.packing.test_stacked_members import Recurrent, alone, member, perceptron, seeded


class HostStream:
    """Replays into the same memory, as a GPU does, and counts how often."""

    def __init__(self):
        self.replayed = 0

    def active(self):
        return contextlib.nullcontext()

    def host(self, shape, dtype):
        return torch.full(tuple(shape), 7, dtype=dtype)

    def device(self, shape, dtype):
        return torch.zeros(*shape, dtype=dtype)

    def record(self, run):
        output = run()

        def replay():
            self.replayed += 1
            output.copy_(run())

        return Recording(replay, output)

    def wait(self):
        pass


def doubled(tensors):
    return torch.stack([tensors[0] * 2, tensors[0] * 3])


def graphs(ways=(doubled,), sizes=(1, 2, 4), padded=False):
    return Graphs(HostStream(), ways, [torch.ones(1, 3)], sizes, same_bits, padded)


@pytest.mark.parametrize(("most", "sizes"), [(1, [1]), (6, [1, 2, 4, 6]), (64, [1, 2, 4, 8, 16, 32, 64])])
def test_passes_are_recorded_for_powers_of_two_and_for_the_most_rows(most, sizes):
    assert sizes_up_to(most) == sizes


def test_rows_of_a_recorded_number_are_replayed_and_others_only_where_padding_may_be_added():
    exact, padded = graphs(), graphs(padded=True)
    rows = [torch.randn(3, 3)]
    assert exact.size_for(rows) is None
    assert padded.size_for(rows) == 4
    assert padded.size_for([torch.randn(5, 3)]) is None
    torch.testing.assert_close(padded(rows, 4), doubled(rows))


def test_rows_of_another_shape_or_type_are_not_replayed():
    found = graphs()
    assert found.size_for([torch.ones(2, 4)]) is None
    assert found.size_for([torch.ones(2, 3, dtype=torch.float64)]) is None
    assert found.size_for([torch.ones(2, 3)]) == 2


def test_each_batch_gets_its_own_numbers():
    found = graphs()
    for _ in range(3):
        rows = [torch.randn(2, 3)]
        torch.testing.assert_close(found(rows, 2), doubled(rows))


def test_a_way_that_changes_a_bit_is_not_recorded():
    found = graphs(ways=(doubled, lambda tensors: doubled(tensors) + 1e-6))
    assert set(found.way.values()) == {0}


def test_what_gives_other_bits_once_it_is_recorded_is_not_replayed():
    replaying = []

    def moody(tensors):
        replaying.append(1)
        return doubled(tensors) + (0 if len(replaying) == 1 else 1e-6)

    assert graphs(ways=(moody,), sizes=(2,)).sizes == []


@pytest.fixture
def stream(monkeypatch):
    """The stream that members are given as if they were on a GPU."""
    found = HostStream()
    monkeypatch.setattr(alike, "_stream", lambda member: found)
    return found


def rows(count, shape=(8,)):
    return {"x": np.random.default_rng(count).normal(size=(count, *shape)).astype(np.float32)}


@pytest.mark.parametrize("stack", [None, True])
def test_members_answer_from_recordings_what_each_answers_alone(stream, stack):
    members = [member(perceptron(at), stack=stack) for at in range(3)]
    expected = {count: alone(members, rows(count)) for count in (1, 2, 3, 4)}
    (stacked,), _ = stack_members(members)
    recorded, before = {1, 2, 4} if stack is None else {1, 2, 3, 4}, stream.replayed
    for count, right in expected.items():
        first, again = stacked.run(rows(count)), stacked.run(rows(count))
        np.testing.assert_allclose(first, right, rtol=0, atol=0 if stack is None else 1e-6)
        np.testing.assert_array_equal(again, first)
    assert stream.replayed - before == 2 * len(recorded)


def test_answers_are_not_overwritten_by_the_next(stream):
    (stacked,), _ = stack_members([member(perceptron(at)) for at in range(2)])
    first = stacked.run(rows(2))
    kept = [array.copy() for array in first]
    stacked.run({"x": rows(2)["x"] + 1})
    np.testing.assert_array_equal(first, kept)


def test_networks_that_cannot_be_batched_are_recorded_one_by_one(stream):
    members = [member(network, (5, 8)) for network in seeded(Recurrent, 2)]
    expected = alone(members, rows(2, (5, 8)))
    (stacked,), why = stack_members(members)
    assert not why
    assert stacked.how == "recorded for 1, 2, 4 rows, 0 of these batched; vmap cannot run its LSTM"
    np.testing.assert_array_equal(stacked.run(rows(2, (5, 8))), expected)


def test_members_of_one_checkpoint_are_recorded_once(stream):
    network = perceptron(0)
    (stacked,), _ = stack_members([member(network), member(network)])
    one, other = stacked.run(rows(2))
    np.testing.assert_array_equal(one, other)
    assert stacked.how.startswith("2 of one checkpoint are computed once; recorded for 1, 2, 4 rows")


def test_what_cannot_be_recorded_runs_as_it_did(stream, monkeypatch):
    def refuse(run):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    monkeypatch.setattr(stream, "record", refuse)
    members = [member(nn.Linear(8, 3)), member(nn.Linear(8, 3))]
    expected = alone(members, rows(2))
    (stacked,), _ = stack_members(members)
    np.testing.assert_array_equal(stacked.run(rows(2)), expected)
