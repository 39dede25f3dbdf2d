"""What is read of a replica's message."""

import numpy as np
import pytest

from quorate.deployments.routing.reply import read_reply
from quorate.deployments.transport.messages import Kind, Message
from quorate.deployments.transport.row_state import RowState

VALUES = np.ones((2, 3), dtype=np.float32)
GOOD = np.zeros(2, dtype=np.uint8)


def read(*tensors, kind=Kind.ANSWER):
    return read_reply(Message(kind, 1, 0.25, tensors), 2, 0.5)


def test_an_answer_is_its_values_and_the_state_of_each_row():
    reply = read(VALUES, np.array([RowState.OK, RowState.NONFINITE], dtype=np.uint8))
    assert reply.values is VALUES
    assert reply.status.tolist() == [RowState.OK, RowState.NONFINITE]
    assert (reply.failed_rows, reply.inference_s, reply.latency_s, reply.reason) == (1, 0.25, 0.5, "")


def test_a_failure_is_an_error():
    assert read(kind=Kind.FAILURE).reason == "error"


@pytest.mark.parametrize(
    "tensors",
    [
        (),
        (VALUES,),
        (VALUES, GOOD, GOOD),
        (VALUES[:1], GOOD),
        (VALUES, GOOD[:1]),
        (VALUES[0, 0].reshape(()), GOOD),
        (VALUES, GOOD.astype(np.int64)),
        (VALUES.astype("S4"), GOOD),
        (VALUES, np.array([0, RowState.DEADLINE], dtype=np.uint8)),  # no replica may say that
    ],
)
def test_what_is_not_a_value_and_a_state_for_each_row_has_the_wrong_shape(tensors):
    reply = read(*tensors)
    assert (reply.values, reply.status, reply.reason) == (None, None, "shape")
