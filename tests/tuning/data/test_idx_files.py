import gzip
from pathlib import Path

import numpy as np
import pytest

from quorate.tuning import idx_images
from quorate.tuning.errors import DataError

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"


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
