"""Bytes cut into messages, however they come."""

import random

import pytest

from quorate.deployments.errors import BodySizeError, OverloadedError, RequestError
from quorate.deployments.memory_budget import MemoryBudget
from quorate.deployments.server.grpc.messages import OBJECT_BYTES, MessageReader, prefix_of


def reader(limit=1 << 20, budget_bytes=1 << 30):
    hold = MemoryBudget(budget_bytes).hold()
    return MessageReader(hold, lambda _size: limit), hold


@pytest.mark.parametrize("seed", range(30))
def test_messages_come_out_as_they_went_in_wherever_the_pieces_end(seed):
    rng = random.Random(seed)
    messages = [rng.randbytes(rng.choice([0, 1, 4, 5, 100, 3000])) for _ in range(20)]
    wire = b"".join(prefix_of(message) + message for message in messages)
    found, (read, hold) = [], reader()
    while wire:
        size = rng.choice([1, 2, 5, 50, 5000])
        read.feed(wire[:size])
        wire = wire[size:]
        while len(read) and rng.random() < 0.7:
            found.append(read.pop())
    while len(read):
        found.append(read.pop())
    assert found == [(False, message) for message in messages]
    assert not read.partial
    for _, message in found:
        read.release(message)
    assert hold.held_bytes == 0


def test_many_small_pieces_are_held_as_few():
    read, hold = reader()
    read.feed(prefix_of(bytes(100_000)))
    for _ in range(50_000):
        read.feed(b"\0")
    assert hold.held_bytes == 50_005
    assert len(read._pieces) <= 1025
    read.feed(bytes(50_000))
    assert read.pop() == (False, bytes(100_000))


def test_messages_that_nobody_reads_count_as_objects_too():
    read, hold = reader()
    read.feed(prefix_of(b"") * 1000)
    assert hold.held_bytes == 1000 * (5 + OBJECT_BYTES)


def test_what_is_too_long_or_too_much_or_no_message_is_refused():
    read, _ = reader(limit=10)
    with pytest.raises(BodySizeError):
        read.feed(prefix_of(bytes(11)))
    read, _ = reader(budget_bytes=100)
    with pytest.raises(OverloadedError):
        read.feed(bytes(101))
    read, _ = reader()
    with pytest.raises(RequestError, match="begins with the byte 7"):
        read.feed(b"\x07\0\0\0\0")
