"""The best classes of each row, against NumPy's own sort of whole rows."""

import numpy as np
import pytest

from quorate.deployments.errors import RequestError
from quorate.deployments.server.classification import classes_bytes, top_classes

RNG = np.random.default_rng(0)


def sorted_whole(values, count, labels):
    found = []
    for row in values.reshape(len(values), -1).tolist():
        best = sorted(range(len(row)), key=lambda column: -row[column])[:count]
        found.append([f"{row[c]:f}:{c}{':' + labels[c] if labels else ''}".encode() for c in best])
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.int8])
@pytest.mark.parametrize("count", [1, 3, 7, 100])
def test_the_best_are_those_of_a_stable_sort_ties_included(dtype, count):
    values = RNG.integers(0, 5, (200, 7)).astype(dtype)  # of 7 some are always equal
    labels = [f"c{number}" for number in range(7)]
    assert top_classes(values, count, labels).tolist() == sorted_whole(values, count, labels)
    assert top_classes(values, count, labels[:3]).tolist() == sorted_whole(values, count, None)


def test_the_least_of_a_whole_number_type_is_the_worst():
    values = np.array([[np.iinfo(np.int64).min, 0, np.iinfo(np.int64).max]])
    assert [item.split(b":")[1] for item in top_classes(values, 3, None)[0]] == [b"2", b"1", b"0"]


def test_rows_of_more_dimensions_are_flat():
    values = RNG.random((4, 2, 3), dtype=np.float32)
    assert top_classes(values, 2, None).tolist() == sorted_whole(values, 2, None)


def test_strings_have_no_best():
    with pytest.raises(RequestError, match="leave out parameter classification"):
        top_classes(np.array([[b"a"]], dtype=object), 1, None)


def test_what_it_takes_is_known_before():
    values = np.zeros((10, 100), np.float32)
    answer = top_classes(values, 20, [f"class {number:20}" for number in range(100)])
    assert sum(33 + len(item) + 8 for item in answer.ravel()) < classes_bytes(values, 20)
