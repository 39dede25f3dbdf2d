import numpy as np
from sklearn.datasets import load_digits

from quorate.tuning import Labelled, digits


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
