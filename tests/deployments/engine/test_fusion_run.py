"""The rows of one node in a batch."""

import numpy as np

from quorate.deployments.engine.fusion_run import NodeRows
from quorate.deployments.engine.fusions.presence import DEADLINE, OK, SHAPE, UNASKED
from quorate.deployments.transport.row_state import RowState


def node(rows=4):
    return NodeRows(np.full(rows, UNASKED, dtype=np.uint8))


def values(*numbers, width=2, dtype=np.float32):
    return np.repeat(np.array(numbers, dtype=dtype)[:, None], width, axis=1)


def test_rows_that_come_in_parts_stand_at_their_places():
    rows = node()
    rows.settle(np.array([2, 0]), OK, values(2, 0))
    rows.settle(np.array([3]), OK, values(3))
    assert rows.settled.tolist() == [True, False, True, True]
    assert rows.states.tolist() == [OK, UNASKED, OK, OK]
    assert rows.values[:, 0].tolist() == [0, 0, 2, 3]


def test_all_rows_at_once_are_kept_as_they_came():
    rows, came = node(2), values(1, 2)
    rows.settle(np.array([0, 1]), np.array([OK, RowState.ERROR]), came)
    assert rows.values is came
    assert rows.states.tolist() == [OK, RowState.ERROR]


def test_rows_that_failed_have_no_values():
    rows = node(2)
    rows.settle(np.array([0]), RowState.DEAD)
    rows.settle(np.array([1]), np.array([RowState.NONFINITE]), values(1))
    assert rows.values is None
    assert rows.settled.all()


def test_rows_of_another_shape_than_those_before_are_lost_but_those_that_failed_keep_their_reason():
    rows = node(3)
    rows.settle(np.array([0]), OK, values(1, width=2))
    rows.settle(np.array([1, 2]), np.array([OK, DEADLINE]), values(1, 1, width=3))
    assert rows.states.tolist() == [OK, SHAPE, DEADLINE]
    assert rows.values.shape == (3, 2)


def test_rows_of_a_wider_type_widen_those_before():
    rows = node(2)
    rows.settle(np.array([0]), OK, values(1, dtype=np.float32))
    rows.settle(np.array([1]), OK, values(1e300, dtype=np.float64))
    assert rows.values[:, 0].tolist() == [1.0, 1e300]


def test_states_are_those_of_the_batchs_table():
    table = np.full((2, 3), UNASKED, dtype=np.uint8)
    NodeRows(table[1]).settle(np.array([0, 2]), OK, values(0, 2))
    assert table.tolist() == [[UNASKED] * 3, [OK, UNASKED, OK]]
