"""What member and fusion replicas send each other survives the way, and garbage is refused, not obeyed."""

import contextlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quorate.deployments.transport.messages import FramingError, Kind, pack, pack_failure, unpack

pytestmark = pytest.mark.long

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
FIXED = [np.dtype(d) for d in ("?", *(f"{k}{n}" for k in "iu" for n in (1, 2, 4, 8)), "f2", "f4", "f8")]


@st.composite
def byte_tensors(draw):
    shape = draw(SHAPES)
    array = np.empty(int(np.prod(shape)), dtype=object)
    array[:] = draw(st.lists(st.binary(max_size=9), min_size=array.size, max_size=array.size))
    return array.reshape(shape)


@st.composite
def bfloat16_tensors(draw):
    return draw(hnp.arrays(np.uint16, SHAPES)).view(ml_dtypes.bfloat16)


TENSORS = st.one_of(*[hnp.arrays(d, SHAPES) for d in FIXED], byte_tensors(), bfloat16_tensors())


def same(a, b):
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a.tolist() == b.tolist() if a.dtype == object else a.tobytes() == b.tobytes()


@given(st.sampled_from([Kind.CALL, Kind.ANSWER]), st.integers(0, 2**64 - 1), st.lists(TENSORS, max_size=4))
def test_every_datatype_survives_the_way(kind, call_id, tensors):
    message = unpack([bytes(frame) for frame in pack(kind, call_id, 0.5, tensors)])
    assert (message.kind, message.call_id, message.number) == (kind, call_id, 0.5)
    assert len(message.tensors) == len(tensors)
    assert all(same(sent, found) for sent, found in zip(tensors, message.tensors, strict=True))


@given(st.integers(0, 2**64 - 1), st.text(max_size=50))
def test_failure_says_why(call_id, text):
    message = unpack(pack_failure(call_id, text))
    assert (message.kind, message.call_id, message.text) == (Kind.FAILURE, call_id, text)


@settings(max_examples=500)
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_garbage_is_refused(frames):
    with pytest.raises(FramingError):
        unpack(frames)


@settings(max_examples=500)
@given(st.lists(TENSORS, min_size=1, max_size=2), st.data())
def test_damaged_message_is_refused_or_read_but_never_raises_otherwise(tensors, data):
    frames = [bytearray(frame) for frame in pack(Kind.CALL, 7, 1.0, tensors)]
    frame = frames[data.draw(st.integers(0, len(frames) - 1))]
    if frame:
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
        del frame[data.draw(st.integers(0, len(frame))) :]
    with contextlib.suppress(FramingError):
        unpack([bytes(frame) for frame in frames])
