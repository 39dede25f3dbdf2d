"""Messages written to a byte stream come out whole, wherever the stream is cut; garbage is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.deployments.transport.framing import CHUNK_BYTES, StreamCutter, to_stream
from quorate.deployments.transport.messages import FramingError, Kind, pack, unpack

MESSAGES = st.lists(st.lists(st.binary(max_size=50), max_size=4), min_size=1, max_size=6)


def cut(data, sizes):
    """What a cutter makes of ``data`` when it arrives in pieces of ``sizes`` bytes, over and over."""
    cutter, at = StreamCutter(), 0
    messages: list[Any] = []
    while at < len(data):
        buffer = cutter.buffer()
        size = min(sizes[len(messages) % len(sizes)], len(buffer), len(data) - at)
        buffer[:size] = data[at : at + size]
        messages += cutter.filled(size)
        at += size
    return [[bytes(frame) for frame in message] for message in messages]


@given(MESSAGES, st.lists(st.integers(1, 200), min_size=1))
def test_messages_survive_wherever_the_stream_is_cut(messages, sizes):
    data = b"".join(b"".join(to_stream(message)) for message in messages)
    assert cut(data, sizes) == messages


@settings(max_examples=20)
@given(st.lists(st.integers(0, 3 * CHUNK_BYTES), min_size=1, max_size=4), st.integers(1000, 2 * CHUNK_BYTES))
def test_messages_larger_than_the_buffer_survive_among_small_ones(lengths, size):
    rng = np.random.default_rng(sum(lengths))
    messages = [[b"small"], *([b"head", rng.bytes(length)] for length in lengths), [b"last"]]
    data = b"".join(b"".join(to_stream(message)) for message in messages)
    assert cut(data, [size]) == messages


@pytest.mark.parametrize("rows", [1, 20_000])
def test_tensors_lie_aligned(rows):
    tensors = (np.ones(3, np.uint8), np.ones((rows, 2), np.float64))
    cutter = StreamCutter()
    data = b"".join(b"".join(to_stream(pack(Kind.CALL, 1, 1.0, tensors))) for _ in range(2))
    found = []
    for at in range(0, len(data), 1000):
        piece = data[at : at + 1000]
        while piece:
            buffer = cutter.buffer()
            size = min(len(piece), len(buffer))
            buffer[:size] = piece[:size]
            found += cutter.filled(size)
            piece = piece[size:]
    assert len(found) == 2
    assert all(tensor.flags.aligned for frames in found for tensor in unpack(frames).tensors)


@given(st.binary(min_size=8, max_size=64).filter(lambda data: data[:4] != b"QST1"))
def test_garbage_is_refused(data):
    with pytest.raises(FramingError, match="not one of ours"):
        cut(data, [len(data)])


@pytest.mark.parametrize("head", [b"QST1" + b"\xff" * 4, b"QST1" + (1).to_bytes(4, "little") + b"\xff" * 8])
def test_absurd_sizes_are_refused_before_memory_is_taken_for_them(head):
    with pytest.raises(FramingError):
        cut(head, [len(head)])
