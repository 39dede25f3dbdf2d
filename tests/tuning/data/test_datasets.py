import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, parquet
from sklearn.datasets import load_digits

from quorate.tuning import Labelled, digits, idx_images, read_table
from quorate.tuning.errors import DataError

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"


def test_digits_are_split_by_class_and_no_row_is_in_two_splits():
    splits = digits()
    parts = [splits.train, splits.validation, splits.test]
    assert [len(part) for part in parts] == [1077, 360, 360]
    everything = np.concatenate([part.inputs["image"].reshape(-1, 64) for part in parts])
    original = load_digits().data.astype(np.float32) / 16
    assert sorted(row.tobytes() for row in everything) == sorted(row.tobytes() for row in original)
    shares = [np.bincount(part.labels) / len(part) for part in parts]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.005)
    np.testing.assert_allclose(shares[0], shares[2], atol=0.005)


def test_the_same_seed_gives_the_same_rows():
    assert digits(seed=1).test.digest() == digits(seed=1).test.digest() != digits(seed=2).test.digest()


def test_the_digest_sees_order_labels_names_and_types():
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    y = np.array([0, 1, 0])
    base = Labelled({"x": x}, y, ("a", "b"))
    others = [
        Labelled({"z": x}, y, ("a", "b")),
        Labelled({"x": x.astype(np.float64)}, y, ("a", "b")),
        Labelled({"x": x.reshape(3, 2, 1)}, y, ("a", "b")),
        Labelled({"x": x}, y, ("b", "a")),
        Labelled({"x": x}, np.array([0, 1, 1]), ("a", "b")),
        base.rows(np.array([1, 0, 2])),
    ]
    assert len({base.digest(), *(other.digest() for other in others)}) == 7


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture
def idx_folder(tmp_path):
    rng = np.random.default_rng(0)
    for part, rows in (("train", 50), ("t10k", 10)):
        images, labels = rng.integers(0, 256, (rows, 6, 5), dtype=np.uint8), np.arange(rows, dtype=np.uint8) % 3
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_idx_files_are_read_plain_and_gzipped(idx_folder):
    splits = idx_images(idx_folder, full=True)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [40, 10, 10]
    assert splits.test.inputs["image"].shape == (10, 1, 6, 5)
    assert splits.test.labels.tolist() == [i % 3 for i in range(10)]
    raw = gzip.decompress((idx_folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    np.testing.assert_allclose(splits.test.inputs["image"].ravel() * 255, np.frombuffer(raw, np.uint8), atol=1e-4)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "t10k-labels-idx1-ubyte").unlink(), "no t10k-labels-idx1-ubyte"),
        (lambda f: (f / "t10k-labels-idx1-ubyte").write_bytes(b"PK\3\4 not idx"), "no IDX file"),
        (lambda f: (f / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(10, np.uint8))[:-1]), "9 bytes of data"),
        (lambda f: (f / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(9, np.uint8))), "files of one data set"),
        (lambda f: (f / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(10, 7, np.uint8))), "has 8 classes"),
        (lambda f: (f / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b\x08cut"), "damaged"),
    ],
)
def test_a_damaged_idx_folder_is_refused(idx_folder, damage, said):
    damage(idx_folder)
    with pytest.raises(DataError, match=said):
        idx_images(idx_folder)


def test_a_test_file_without_the_last_class_still_has_the_classes_of_the_training_file(idx_folder):
    (idx_folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(10, np.uint8)))
    splits = idx_images(idx_folder, full=True)
    assert splits.test.classes == splits.train.classes == ("0", "1", "2")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_real_mnist_files_are_read(name):
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the real files in ../shared/data/{name}")
    splits = idx_images(folder)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [8000, 2000, 2000]
    assert splits.train.inputs["image"].shape == (8000, 1, 28, 28)
    assert splits.train.classes == tuple("0123456789")
    assert 0.2 < splits.train.inputs["image"].mean() + splits.train.inputs["image"].std() < 1


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
    assert mapped.inputs["text"].tolist() == words
    assert mapped.digest() == held.digest()
    assert mapped.labels.tolist() == [i % 2 for i in range(500)]


@pytest.mark.parametrize("labels", [[3, 1, 3], [3.0, 1.0, 3.0], ["3", "1", "3"]])
def test_labels_are_matched_by_the_names_of_classes(labels, tmp_path):
    np.savez(tmp_path / "rows.npz", x=IMAGES, label=np.array(labels))
    assert read_table(tmp_path / "rows.npz", {"x": (2, 2)}, ["1", "2", "3"]).labels.tolist() == [2, 0, 2]


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
    with pytest.raises(DataError, match="differ in size"):
        read_table(tmp_path / "ragged.parquet", {"x": (1,)}, ["0", "1"])
    (tmp_path / "rows.csv").write_text("x,label\n")
    with pytest.raises(DataError, match="unknown kind"):
        read_table(tmp_path / "rows.csv", {"x": (1,)}, ["0", "1"])
    (tmp_path / "broken.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="damaged"):
        read_table(tmp_path / "broken.npz", {"x": (1,)}, ["0", "1"])
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(DataError, match="damaged"):
        read_table(tmp_path / "broken.parquet", {"x": (1,)}, ["0", "1"])
