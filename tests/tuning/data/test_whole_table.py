import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from quorate.tuning.data.whole_table import class_names, read_whole_table
from quorate.tuning.errors import DataError


@pytest.fixture
def table():
    return pa.table({"age": [39, 50, 38], "hours": [40.5, 13.0, 40.0], "label": ["<=50K", ">50K", "<=50K"]})


@pytest.mark.parametrize("write", [csv.write_csv, parquet.write_table])
def test_every_column_but_the_label_is_an_input(table, write, tmp_path):
    path = tmp_path / ("rows.csv" if write is csv.write_csv else "rows.parquet")
    write(table, path)
    found = read_whole_table(path)
    assert {name: array.tolist() for name, array in found.inputs.items()} == {
        "age": [[39], [50], [38]], "hours": [[40.5], [13], [40]],
    }  # fmt: skip
    assert (found.classes, found.labels.tolist()) == (("<=50K", ">50K"), [0, 1, 0])


def test_arrays_keep_their_shape(tmp_path):
    np.savez(tmp_path / "rows.npz", image=np.ones((3, 1, 8, 8), np.uint8), digit=[10, 2, 2])
    found = read_whole_table(tmp_path / "rows.npz", "digit")
    assert found.inputs["image"].shape == (3, 1, 8, 8)
    assert found.inputs["image"].dtype == np.float32
    assert (found.classes, found.labels.tolist()) == (("2", "10"), [1, 0, 0])


@pytest.mark.parametrize(("labels", "names"), [([2.0, 1.0], ("1", "2")), (["b", "a"], ("a", "b")), ([0.5], ("0.5",))])
def test_names_are_in_order_and_whole_numbers_have_no_point(labels, names):
    assert class_names(np.array(labels)) == names


def test_text_and_tables_without_labels_or_inputs_are_refused(table, tmp_path):
    parquet.write_table(table.append_column("word", pa.array(["a", "b", "c"])), tmp_path / "word.parquet")
    with pytest.raises(DataError, match="column 'word', row 0: 'a', the model reads FP32"):
        read_whole_table(tmp_path / "word.parquet")
    with pytest.raises(DataError, match="no column 'kind'; it has age, hours, label"):
        read_whole_table(tmp_path / "word.parquet", "kind")
    parquet.write_table(table.select(["label"]), tmp_path / "labels.parquet")
    with pytest.raises(DataError, match="no column beside 'label'"):
        read_whole_table(tmp_path / "labels.parquet")
