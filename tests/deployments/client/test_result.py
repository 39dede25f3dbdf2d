"""What an answer looks like: the likeliest class where a row is shares, its numbers where it is values."""

import numpy as np
import pandas as pd

from quorate.deployments.client.result import Result


def shown(values, classes=()):
    (table,) = Result({"fused": np.array(values, dtype=np.float32)}, {}, classes).tables()
    return [row[1:] for row in table.rows]


def test_shares_show_the_likeliest_class():
    assert shown([[0.1, 0.7, 0.2]]) == [("1", "0.7000")]
    assert shown([[0.1, 0.7, 0.2]], ("a", "b", "c")) == [("b", "0.7000")]


def test_values_and_quantiles_show_their_numbers():
    assert shown([[99.5, 160.25, 281.0], [-1.0, 0.5, 1.5]]) == [
        ("", "99.5000 160.2500 281.0000"),
        ("", "-1.0000 0.5000 1.5000"),
    ]
    assert shown([[2.5]]) == [("", "2.5000")]
    assert shown([np.arange(10.0)]) == [("", " ".join(f"{n}.0000" for n in range(8)) + " ...")]


SHARES = np.array([[0.1, 0.7, 0.2], [0.6, 0.1, 0.3]], np.float32)


def test_labels_are_the_likeliest_classes_and_none_where_the_row_was_abstained_from():
    result = Result({"fused": SHARES}, {"rows_abstained": "1"}, ("a", "b", "c"))
    assert result.labels == ["b", None]
    assert Result({"fused": SHARES}, {}).labels is None


def test_of_several_labels_all_that_are_likely_are_given():
    decided = np.array([[1, 0, 1], [0, 0, 0]], np.float32)
    assert Result({"fused": decided}, {}, ("a", "b", "c"), "multilabel").labels == [["a", "c"], []]


def test_a_frame_has_a_label_a_column_for_each_class_and_the_index_that_was_asked_about():
    outputs = {"fused": SHARES, "a.contribution": np.array([0.5, 1.0], np.float32)}
    frame = Result(outputs, {"revision": "r"}, ("cat", "dog", "cow"), index=pd.Index([7, 9])).to_pandas()
    assert list(frame.columns) == ["label", "cat", "dog", "cow", "a.contribution"]
    assert (frame.loc[9, "label"], frame.attrs["revision"], frame.index.tolist()) == ("cat", "r", [7, 9])
    np.testing.assert_array_equal(frame[["cat", "dog", "cow"]].to_numpy(), SHARES)


def test_a_frame_of_values_has_numbered_columns_and_one_of_text_its_text():
    frame = Result({"fused": SHARES, "names": np.array([b"x", b"y"], object)}, {}).to_pandas()
    assert frame.columns.tolist() == ["fused.0", "fused.1", "fused.2", "names"]
    assert frame["names"].tolist() == ["x", "y"]


def test_an_explained_answer_shows_what_each_member_said_and_its_share():
    outputs = {
        "fused": SHARES, "m.output": SHARES[:, ::-1], "n.output": SHARES,
        "m.contribution": np.array([0.25, 0.0], np.float32), "n.contribution": np.array([0.75, 1.0], np.float32),
    }  # fmt: skip
    _, explained = Result(outputs, {}, ("a", "b", "c")).tables()
    assert explained.rows == [
        ("0", "m", "b", "0.7000", "0.2500"), ("0", "n", "b", "0.7000", "0.7500"),
        ("1", "m", "c", "0.6000", "0.0000"), ("1", "n", "a", "0.6000", "1.0000"),
    ]  # fmt: skip
