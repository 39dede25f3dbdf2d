from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from quorate.tuning import read_table
from quorate.tuning.data.class_names import are_places
from quorate.tuning.data.labelled import match_labels
from quorate.tuning.errors import DataError


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        ([1.0, 2.0], ["1.0", "2.0"], [0, 1]),
        ([1.0, 2.5], ["1", "2.5"], [0, 1]),
        ([3, 1], ["1", "3"], [1, 0]),
        ([3.0, 1.0], ["1", "3"], [1, 0]),
        (["3", "1.0", "3.0"], ["1", "3"], [1, 0, 1]),
        ([Decimal("3.0"), 1, "1"], ["1", "3"], [1, 0, 0]),
        ([np.float32(0.1)], ["0.1"], [0]),
        (np.array([0.1, 0.2], np.float32), ["0.2", "0.1"], [1, 0]),
        ([True, False], ["false", "true"], [1, 0]),
        ([True, False], ["0", "1"], [1, 0]),
        (["010", "10"], ["10", "010"], [1, 0]),
        (["1.10", 1.1], ["1.1", "2"], [0, 0]),
        (["1.10", "1.1"], ["1.1", "1.10"], [1, 0]),
        ([b"cat", "dog"], ["dog", "cat"], [1, 0]),
        ([2**60, 2**60 + 1], [str(2**60 + 1), str(2**60)], [1, 0]),
    ],
)  # fmt: skip
def test_3_and_3_0_are_one_label_as_text_and_as_numbers(labels, classes, expected):
    given = labels if isinstance(labels, np.ndarray) else pd.Series(labels).to_numpy()
    assert match_labels(given, classes, "rows").tolist() == expected


@pytest.mark.parametrize(
    ("labels", "classes", "said"),
    [
        ([0, 1, None], ["0", "1"], "rows: row 2 has no label"),
        (["a", None], ["a", "b"], "rows: row 1 has no label"),
        ([1.0, np.nan], ["1", "nan"], "rows: row 1 has no label"),
        ([8], ["010"], "labels that are no class: 8; the spec's classes are 010"),
        ([10], ["010"], "labels that are no class: 10"),
        ([1], ["1.0", "1.00"], "labels that are no class: 1"),
        ([" a", ""], ["a"], "labels that are no class: '', ' a'; the spec's"),
        ([True], ["yes", "no"], "labels that are no class: True"),
    ],
)  # fmt: skip
def test_what_is_no_class_is_refused_and_a_missing_label_is_none(labels, classes, said):
    with pytest.raises(DataError, match=said):
        match_labels(np.array(labels, dtype=object) if None in labels else np.array(labels), classes, "rows")


def test_a_missing_label_of_a_file_is_no_class(tmp_path):
    (tmp_path / "rows.csv").write_text("x,label\n1,a\n2,\n")
    with pytest.raises(DataError, match="row 1 has no label"):
        read_table(tmp_path / "rows.csv", {"x": ()}, ["a", ""])
    (tmp_path / "rows.csv").write_text("x,label\n1,010\n2,10\n")
    assert read_table(tmp_path / "rows.csv", {"x": ()}, ["10", "010"]).labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "classes", "places"),
    [
        ([1, 0, 1], ["cat", "dog"], True),
        ([1.0, 0.0], ["cat", "dog", "ant"], True),
        (["1", "0"], ["cat", "dog"], True),  # as .csv has them
        ([0, 1], ["class_0", "class_1"], True),
        ([1, 2], ["class_1", "class_2", "class_3"], False),  # which of the two numbers is meant?
        ([0, 1], ["0", "one"], False),
        ([0, 8], ["010", "008"], False),
        ([1, 2], ["cat", "dog"], False),
        ([0.5, 1], ["cat", "dog"], False),
        ([True, False], ["no", "yes"], False),
        ([-1, 0], ["cat", "dog"], False),
        (["cat", 1], ["cat", "dog"], False),
        ([None, 1], ["cat", "dog"], False),
    ],
)
def test_whole_numbers_are_places_of_classes_only_where_they_can_be_nothing_else(labels, classes, places):
    assert are_places(labels, classes) is places
