"""Rows with their true class or value, and their split into rows to train on, to solve on and to judge on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.rows.uneven import is_uneven
from quorate.tuning.data.class_names import ClassNames
from quorate.tuning.data.mapped_arrays import taken_rows
from quorate.tuning.errors import DataError


@dataclass(frozen=True)
class Labelled:
    """Rows with their true class, or value.

    Attributes:
        inputs: request input name -> (N, ...) array, or (N,) arrays where rows have other sizes.
        labels: (N,) int64, an index into ``classes``; (N, C) float64 of 0 and 1, which of them hold; where there are
            no classes the true value or (N, K) values, float64.
        classes: class names; none for values.
        groups: (N,) rows of one group belong together; None where each stands alone.
        times: (N,) what came first; None where that does not matter.
        weights: (N,) how much each row counts, >= 0; None where all count the same.
        numbered: labels were numbers, taken for places in the list of classes.
    """

    inputs: Mapping[str, NDArray[Any]]
    labels: NDArray[Any]
    classes: tuple[str, ...]
    groups: NDArray[Any] | None = None
    times: NDArray[Any] | None = None
    weights: NDArray[np.float64] | None = None
    numbered: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, index: NDArray[Any] | slice) -> Labelled:
        def of(column: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if column is None else column[index]

        return Labelled(
            {k: taken_rows(v, index) for k, v in self.inputs.items()}, self.labels[index], self.classes,
            of(self.groups), of(self.times), of(self.weights), self.numbered,
        )  # fmt: skip

    def digest(self) -> str:
        """sha256 over inputs, their names and types, labels and class names; order of rows counts."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for name in sorted(self.inputs):
            array = np.ascontiguousarray(self.inputs[name])
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            if is_uneven(array):
                for row in array:
                    digest.update(row_content(row))
                continue
            # Text has no fixed width in memory: hash what it says, not where it lies.
            digest.update(repr(array.tolist()).encode() if array.dtype == object else array.data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()


def row_content(row: Any) -> bytes:
    """What a row says: of an array its type, shape and elements, of text that."""
    if not isinstance(row, np.ndarray):
        return repr(row).encode()
    said = repr(row.tolist()).encode() if row.dtype == object else row.tobytes()
    return f"{row.dtype.str} {row.shape} ".encode() + said


def check_labelled(name: str, data: Labelled) -> None:
    """Refuse rows whose parts do not belong together.

    Raises:
        DataError: labels that are no index of a class, or an input with another number of rows.
    """
    for key, array in data.inputs.items():
        if len(array) != len(data.labels):
            found = f"{len(array)} rows of input '{key}' with {len(data.labels)} labels"
            raise DataError(f"{name} rows", found, "give one label for each row")
    if is_multilabel(data):
        if data.labels.shape[1] != len(data.classes) or not np.isin(data.labels, (0, 1)).all():
            found = f"rows of {data.labels.shape[1]} numbers with {len(data.classes)} classes"
            raise DataError(f"{name} labels", found, "give each row 0 or 1 for each class, or the index of one")
        return
    if not data.classes:
        if data.labels.dtype.kind != "f" or not np.isfinite(data.labels).all():
            raise DataError(f"{name} labels", "some are no finite numbers", "give each row its true value")
        return
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


def is_multilabel(data: Labelled) -> bool:
    """Whether each class holds or not by itself."""
    return bool(data.classes) and data.labels.ndim == 2


def true_values(labels: NDArray[Any], source: str) -> NDArray[np.float64]:
    """Labels that are numbers, or lists of as many numbers, each finite: (N,) or (N, K).

    Raises:
        DataError: some are not.
    """
    try:
        values = np.asarray(labels.tolist(), dtype=np.float64)  # a list a row are several values
    except (TypeError, ValueError):
        values = np.full(len(labels), np.nan)
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    if len(bad):
        found = f"label {labels[bad[0]]!r} in row {bad[0]} is no finite number"
        raise DataError(source, found, "give each row its true value, or name the spec's classes")
    return values


def match_labels(labels: NDArray[Any], classes: Sequence[str], source: str) -> NDArray[np.int64]:
    """Indices into ``classes`` of labels given as names or as numbers: 3, 3.0, "3" and "3.0" are one label.

    Args:
        labels: (N,) of numbers, booleans or text; None and NaN are no label.
        source: what errors call the rows.

    Raises:
        DataError: a row without a label, or with one that is no class.
    """
    known = ClassNames(classes)
    if labels.dtype == object:  # True equals 1, but is another label
        keys = [(type(label), label) for label in labels.tolist()]
        place = {key: at for at, key in enumerate(dict.fromkeys(keys))}
        values, inverse = [key[1] for key in place], np.array([place[key] for key in keys], np.int64)
    else:
        found, inverse = np.unique(labels, return_inverse=True)
        values = list(found)
    missing = [at for at, value in enumerate(values) if value is None or value != value]
    if missing:
        row = int(np.flatnonzero(np.isin(inverse, missing))[0])
        raise DataError(source, f"row {row} has no label", "give it one, or leave the row out")
    indices = [known.index(value) for value in values]
    unknown = [_shown(value) for value, index in zip(values, indices, strict=True) if index is None]
    if unknown:
        fix = f"the spec's classes are {', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}"
        raise DataError(source, f"labels that are no class: {', '.join(unknown[:5])}", fix)
    return np.array(indices, dtype=np.int64)[inverse]


def _shown(label: Any) -> str:
    """A label for a sentence: text in quotes where spaces around it would not be seen."""
    text = str(label)
    return repr(text) if text != text.strip() or not text else text
