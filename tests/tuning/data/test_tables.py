import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from quorate.tuning import Labelled, read_table
from quorate.tuning.data.overlap import check_rows
from quorate.tuning.errors import DataError

IMAGES = np.arange(12, dtype=np.float32).reshape(3, 2, 2)


def tables():
    flat = IMAGES.reshape(3, 4)
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), 4)
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(IMAGES)
    return {"lists": pa.array(flat.tolist(), pa.list_(pa.float32())), "fixed": fixed, "tensor": tensor}


@pytest.mark.parametrize("kind", ["lists", "fixed", "tensor"])
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_tables_give_the_inputs_in_the_shape_of_the_spec(kind, suffix, tmp_path):
    table = pa.table({"pixels": tables()[kind], "truth": ["cat", "dog", "cat"]})
    path = tmp_path / f"rows{suffix}"
    parquet.write_table(table, path) if suffix == ".parquet" else feather.write_feather(table, path)
    data = read_table(path, {"pixels": (2, 2)}, ["dog", "cat"], label="truth")
    np.testing.assert_array_equal(data.inputs["pixels"], IMAGES)
    assert data.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_table_of_many_batches_is_the_table_in_memory_or_mapped(suffix, tmp_path):
    images = np.random.default_rng(0).random((500, 3, 4), dtype=np.float32)
    words = [f"row {i}" for i in range(500)]
    table = pa.table({"x": images.reshape(500, 12).tolist(), "text": words, "label": [i % 2 for i in range(500)]})
    table = table.set_column(0, "x", pa.array(images.reshape(500, 12).tolist(), pa.list_(pa.float32())))
    path = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=70)
    else:
        feather.write_feather(table, path, chunksize=70)
    held, mapped = (
        read_table(path, {"x": (3, 4), "text": ()}, ["0", "1"], memory_bytes=size) for size in (1 << 20, 1 << 10)
    )
    assert not isinstance(held.inputs["x"], np.memmap)
    assert isinstance(mapped.inputs["x"], np.memmap)
    np.testing.assert_array_equal(mapped.inputs["x"], images)
    assert mapped.inputs["text"].tolist() == [word.encode() for word in words]
    assert mapped.digest() == held.digest()
    assert mapped.labels.tolist() == [i % 2 for i in range(500)]


@pytest.mark.parametrize("labels", [[3, 1, 3], [3.0, 1.0, 3.0], ["3", "1", "3"]])
def test_labels_are_matched_by_the_names_of_classes(labels, tmp_path):
    np.savez(tmp_path / "rows.npz", x=IMAGES, label=np.array(labels))
    assert read_table(tmp_path / "rows.npz", {"x": (2, 2)}, ["1", "2", "3"]).labels.tolist() == [2, 0, 2]


@pytest.mark.parametrize("labels", [[2, 0, 2], [2.0, 0.0, 2.0], ["2", "0", "2"]])
def test_numbers_are_places_of_classes_that_are_called_by_words_and_that_is_said(labels, tmp_path):
    np.savez(tmp_path / "rows.npz", x=IMAGES, label=np.array(labels))
    data = read_table(tmp_path / "rows.npz", {"x": (2, 2)}, ["cat", "dog", "bird"])
    assert data.labels.tolist() == [2, 0, 2]
    other = Labelled({"x": IMAGES + 1}, data.labels, data.classes)
    said = "labels are numbers, taken for the spec's classes in their order: 0 is cat, 1 is dog, 2 is bird"
    assert check_rows(data.rows(slice(0, 2)), other) == [said]


@pytest.mark.parametrize(
    ("columns", "shape", "said"),
    [
        ({"x": IMAGES}, (2, 2), "no column 'label'"),
        ({"y": IMAGES, "label": [1, 1, 1]}, (2, 2), "no column 'x'"),
        ({"x": IMAGES, "label": [1, 7, 1]}, (2, 2), "labels that are no class: 7"),
        ({"x": IMAGES, "label": [1, 2, 1]}, (3, 2), "rows of shape"),
        ({"x": IMAGES, "label": [1, 2]}, (2, 2), "3 rows of 'x', 2 rows of 'label'; give as many of each"),
        ({"x": np.float32(1), "label": [1]}, (), "0 rows of 'x', 1 rows of 'label'"),
        ({"x": IMAGES, "label": np.array(["1", "2", "1"], dtype=object)}, (2, 2), "an array of Python objects"),
    ],
)
def test_a_table_that_does_not_fit_the_spec_is_refused(columns, shape, said, tmp_path):
    np.savez(tmp_path / "rows.npz", **columns)
    with pytest.raises(DataError, match=said):
        read_table(tmp_path / "rows.npz", {"x": shape}, ["1", "2"])


def test_rows_of_different_size_and_unknown_files_are_refused(tmp_path):
    parquet.write_table(pa.table({"x": [[1.0], [1.0, 2.0]], "label": [0, 1]}), tmp_path / "ragged.parquet")
    with pytest.raises(DataError, match=r"column 'x', row 1: shape \[2\], and \[1\] before; rows of one tensor"):
        read_table(tmp_path / "ragged.parquet", {"x": (1,)}, ["0", "1"])
    (tmp_path / "rows.xls").write_text("x,label\n")
    with pytest.raises(DataError, match="unknown kind"):
        read_table(tmp_path / "rows.xls", {"x": (1,)}, ["0", "1"])
    (tmp_path / "broken.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="damaged"):
        read_table(tmp_path / "broken.npz", {"x": (1,)}, ["0", "1"])
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(DataError, match="damaged"):
        read_table(tmp_path / "broken.parquet", {"x": (1,)}, ["0", "1"])


def test_numbers_without_a_datatype_are_those_of_the_file_in_all_its_batches(tmp_path):
    rows = [str(n) for n in range(70_000)] + ["1.5"]
    (tmp_path / "rows.csv").write_text("x,label\n" + "\n".join(f"{word},0" for word in rows))
    for size in (1 << 30, 1 << 10):
        found = read_table(tmp_path / "rows.csv", {"x": ()}, ["0"], memory_bytes=size).inputs["x"]
        np.testing.assert_array_equal(found, np.array(rows, np.float64))
    lines = ['{"x": 1, "label": 0}'] * 5_000 + ['{"x": 1.5, "label": 0}']
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"column 'x', row 4096: float64, and int64 before; say in the spec"):
        read_table(tmp_path / "rows.jsonl", {"x": ()}, ["0"])
