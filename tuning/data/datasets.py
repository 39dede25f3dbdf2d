"""Labelled data: the bundled digits, folders of MNIST's IDX files, tables. Labels are matched with class names.

Entry points: ``digits() -> Splits``, ``idx_images(folder, full=False) -> Splits``,
``read_table(path, inputs, classes, label="label") -> Labelled``.
"""

# N rows, C classes

from __future__ import annotations

import gzip
import hashlib
import math
import tempfile
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.errors import DataError

MEMORY_BYTES = 1 << 30
_COPIED_BYTES = 16 << 20


@dataclass(frozen=True)
class Labelled:
    """Rows with their true class.

    Attributes:
        inputs: request input name -> (N, ...) array.
        labels: (N,) int64, an index into ``classes``.
        classes: class names.
    """

    inputs: Mapping[str, NDArray[Any]]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, index: NDArray[Any] | slice) -> Labelled:
        return Labelled({k: _taken(v, index) for k, v in self.inputs.items()}, self.labels[index], self.classes)

    def digest(self) -> str:
        """sha256 over inputs, their names and types, labels and class names; order of rows counts."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for name in sorted(self.inputs):
            array = np.ascontiguousarray(self.inputs[name])
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            # Text has no fixed width in memory: hash what it says, not where it lies.
            digest.update(repr(array.tolist()).encode() if array.dtype == object else array.data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()


def check_labelled(name: str, data: Labelled) -> None:
    """Refuse rows whose parts do not belong together.

    Raises:
        DataError: labels that are no index of a class, or an input with another number of rows.
    """
    for key, array in data.inputs.items():
        if len(array) != len(data.labels):
            found = f"{len(array)} rows of input '{key}' with {len(data.labels)} labels"
            raise DataError(f"{name} rows", found, "give one label for each row")
    if data.labels.dtype.kind not in "iu":
        fix = "give the index of each row's class; match_labels turns names into it"
        raise DataError(f"{name} labels", f"they are {data.labels.dtype}", fix)
    if len(data.labels) and not 0 <= data.labels.min() <= data.labels.max() < len(data.classes):
        found = f"from {data.labels.min()} to {data.labels.max()} with {len(data.classes)} classes"
        raise DataError(f"{name} labels", found, f"give indices from 0 to {len(data.classes) - 1}")


@dataclass(frozen=True)
class Splits:
    """Rows to train members on, to solve weights on, and to judge the outcome on."""

    train: Labelled
    validation: Labelled
    test: Labelled


def split(data: Labelled, shares: tuple[float, float] = (0.2, 0.2), seed: int = 0) -> Splits:
    """Split into train, validation and test, each with the same mix of classes; same seed, same rows.

    Args:
        shares: of the rows that go to validation and to test.
    """
    from sklearn.model_selection import train_test_split

    validation, test = shares
    rest, held_out = train_test_split(np.arange(len(data)), test_size=test, stratify=data.labels, random_state=seed)
    train, valid = train_test_split(
        rest, test_size=validation / (1 - test), stratify=data.labels[rest], random_state=seed
    )
    return Splits(data.rows(np.sort(train)), data.rows(np.sort(valid)), data.rows(np.sort(held_out)))


def digits(seed: int = 0) -> Splits:
    """scikit-learn's bundled handwritten digits (UCI optdigits): 1,797 images (1, 8, 8), 60/20/20, pixels 0 to 1."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[:, None] / 16.0).astype(np.float32)
    data = Labelled({"image": images}, bunch.target.astype(np.int64), tuple(str(c) for c in range(10)))
    return split(data, seed=seed)


def idx_images(folder: str | Path, full: bool = False, seed: int = 0) -> Splits:
    """Images in MNIST's IDX format (LeCun, "The MNIST database"): MNIST, Fashion-MNIST, ...

    Args:
        folder: holds train-images-idx3-ubyte, train-labels-idx1-ubyte and the t10k pair, plain or .gz.
        full: every row; otherwise 10,000 of the training file and 2,000 of the test file, drawn by ``seed``.

    Returns:
        A fifth of the training file is validation; the test file is the test split. Images (1, height, width), 0 to 1.

    Raises:
        DataError: a file is missing or is no IDX file, or the two pairs do not belong together.
    """
    folder = Path(folder)
    train, test = _idx_pair(folder, "train"), _idx_pair(folder, "t10k")
    if not set(test.classes) <= set(train.classes):
        found = f"the test file has {len(test.classes)} classes, the training file {len(train.classes)}"
        raise DataError(str(folder), found, "give files of one data set")
    test = Labelled(test.inputs, test.labels, train.classes)
    if not full:
        train, test = _draw(train, 10_000, seed), _draw(test, 2_000, seed)
    order = np.random.default_rng(seed).permutation(len(train))
    cut = len(train) // 5
    return Splits(train.rows(np.sort(order[cut:])), train.rows(np.sort(order[:cut])), test)


def _draw(data: Labelled, rows: int, seed: int) -> Labelled:
    order = np.random.default_rng(seed).permutation(len(data))
    return data.rows(np.sort(order[:rows]))


def _idx_pair(folder: Path, part: str) -> Labelled:
    images = read_idx(_idx_file(folder, f"{part}-images-idx3-ubyte"))
    labels = read_idx(_idx_file(folder, f"{part}-labels-idx1-ubyte")).astype(np.int64)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(str(folder), f"{images.shape} images with {labels.shape} labels", "give files of one data set")
    names = tuple(str(c) for c in range(int(labels.max()) + 1))
    return Labelled({"image": (images[:, None] / 255.0).astype(np.float32)}, labels, names)


def _idx_file(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise DataError(str(folder), f"no {name} or {name}.gz", "give a folder with MNIST's four IDX files")


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes: two zero bytes, type 8, number of dimensions, big-endian sizes, data."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError) as error:
        raise DataError(path.name, f"damaged: {error}", "fetch the file again") from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise DataError(path.name, "no IDX file of unsigned bytes", "give MNIST's files as published")
    start = 4 + 4 * raw[3]
    shape = np.frombuffer(raw[4:start], dtype=">i4")
    if len(raw) - start != int(np.prod(shape)):
        raise DataError(
            path.name, f"{len(raw) - start} bytes of data for shape {shape.tolist()}", "fetch the file again"
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)


def read_table(
    path: str | Path,
    inputs: Mapping[str, Sequence[int]],
    classes: Sequence[str],
    label: str = "label",
    memory_bytes: int = MEMORY_BYTES,
) -> Labelled:
    """Read labelled rows from .parquet, .arrow, .feather or .npz.

    Args:
        path: the file.
        inputs: column of each request input -> shape of one row; lists may be stored flat, npz arrays already shaped.
        classes: class names of the spec; a label is the name of a class, or an integer that reads as one.
        label: name of the label column.
        memory_bytes: an input with more than this is read into a file without a name and mapped from there, whatever
            memory there is; text and npz are always held in memory.

    Raises:
        DataError: a column is missing, a row has another size, or a label is no class.
    """
    path = Path(path)
    if path.suffix == ".npz":
        columns = _read_npz(path)
        _check_columns(path, columns, (*inputs, label))
        _check_lengths(path, {name: columns[name] for name in (*inputs, label)})
        arrays = {name: _shaped(path, name, columns[name], tuple(shape)) for name, shape in inputs.items()}
        return Labelled(arrays, match_labels(columns[label], classes, path.name), tuple(classes))
    from quorate.tuning.data.arrow_files import open_arrow

    with open_arrow(path) as file:
        _check_columns(path, file.columns, (*inputs, label))
        gathered = {name: _Gathered(path, name, tuple(shape), memory_bytes) for name, shape in inputs.items()}
        labels = []
        for start, batch in file.batches((*inputs, label)):
            labels.append(batch[label])
            for name, rows in gathered.items():
                rows.take(start, batch[name], file.rows)
    names = np.concatenate(labels) if labels else np.zeros(0, np.int64)
    arrays = {name: rows.array for name, rows in gathered.items()}
    return Labelled(arrays, match_labels(names, classes, path.name), tuple(classes))


class _Gathered:
    """One input's rows, batch after batch: in memory, or in a file when they are many."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], memory_bytes: int):
        self.path, self.name, self.shape, self.memory_bytes = path, name, shape, memory_bytes
        self.array: NDArray[Any] = np.zeros((0, *(max(size, 0) for size in shape)), np.float32)

    def take(self, start: int, column: NDArray[Any], rows: int) -> None:
        """Rows from ``start`` on, of ``rows`` in all."""
        part = _shaped(self.path, self.name, column, self.shape)
        if start == 0:
            self.array = self._allocated((rows, *part.shape[1:]), part.dtype)
        if part.shape[1:] != self.array.shape[1:]:
            found = f"rows of column {self.name!r} differ in size"
            raise DataError(self.path.name, found, f"give rows of {self.shape}")
        if part.dtype != self.array.dtype:  # text is no array of one width, and nulls make floats of integers
            self.array = self.array.astype(np.result_type(part.dtype, self.array.dtype))
        self.array[start : start + len(part)] = part

    def _allocated(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        if dtype.hasobject or math.prod(shape) * dtype.itemsize <= self.memory_bytes:
            return np.empty(shape, dtype)
        return _mapped(shape, dtype)


def _mapped(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """In a file without a name: it goes with the last array that is mapped from it."""
    with tempfile.TemporaryFile(prefix="quorate-rows-") as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


def _taken(array: NDArray[Any], index: NDArray[Any] | slice) -> NDArray[Any]:
    """Some rows; what was too large for memory is copied to another file."""
    if isinstance(index, slice) or not isinstance(array, np.memmap):
        return array[index]
    rows = np.arange(len(array))[index]
    taken = _mapped((len(rows), *array.shape[1:]), array.dtype)
    size = max(1, _COPIED_BYTES // max(1, array[:1].nbytes))
    for at in range(0, len(rows), size):
        taken[at : at + size] = array[rows[at : at + size]]
    return taken


def _check_columns(path: Path, found: Collection[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in found:
            fix = f"it has {', '.join(sorted(found))}; name it as the spec does"
            raise DataError(path.name, f"no column {name!r}", fix)


def match_labels(labels: NDArray[Any], classes: Sequence[str], source: str) -> NDArray[np.int64]:
    """Indices into ``classes`` of labels given as names; 3 and "3" are the same label, 3.0 too."""
    index = {name: i for i, name in enumerate(classes)}
    if np.issubdtype(labels.dtype, np.floating) and np.isfinite(labels).all() and (labels == labels.round()).all():
        labels = labels.astype(np.int64)
    names, inverse = np.unique(labels.astype(str), return_inverse=True)
    unknown = [str(name) for name in names if name not in index]
    if unknown:
        fix = f"the spec's classes are {', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}"
        raise DataError(source, f"labels that are no class: {', '.join(unknown[:5])}", fix)
    return np.array([index[str(name)] for name in names], dtype=np.int64)[inverse]


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise DataError(str(path), "no such file", "give a .parquet, .arrow, .feather or .npz file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        fix = "write it with numpy.savez, text as an array of strings"
        raise DataError(path.name, "damaged, or an array of Python objects", fix) from None


def _check_lengths(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    rows = {name: len(column) if column.ndim else 0 for name, column in columns.items()}
    if len(set(rows.values())) > 1:
        found = ", ".join(f"{count} rows of {name!r}" for name, count in rows.items())
        raise DataError(path.name, found, "give as many of each")


def _shaped(path: Path, name: str, column: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if column.dtype == object and len(column) and not isinstance(column[0], (str, bytes)):
        try:
            column = np.stack([np.asarray(row).reshape(-1) for row in column])
        except ValueError as error:
            raise DataError(path.name, f"rows of column {name!r} differ in size", f"give rows of {shape}") from error
    if -1 not in shape and column.size != len(column) * int(np.prod(shape)):
        found = f"column {name!r} has rows of shape {column.shape[1:]}"
        raise DataError(path.name, found, f"the spec's input has shape {list(shape)}")
    return np.ascontiguousarray(column if -1 in shape else column.reshape(len(column), *shape))
