"""Images in MNIST's IDX format: MNIST, Fashion-MNIST, ..."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.data.labelled import Labelled, Splits
from quorate.tuning.errors import DataError


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


def is_idx_folder(given: Any) -> bool:
    """Whether this is the path of a folder of such files."""
    names = ("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz")
    return isinstance(given, str | Path) and any((Path(given) / name).is_file() for name in names)


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
