"""Members' predictions in a file: whoever has out-of-fold matrices needs no members that can be run.

Columns: ``label``; ``MEMBER/CLASS`` for each member and class, or ``MEMBER`` for values; and where there are any
``split`` (solve or judge), ``group``, ``time`` and ``weight``. Of several values a row ``label/OUTPUT`` and
``MEMBER/OUTPUT``; of quantiles ``MEMBER/LEVEL``, such as ``net/0.9``; of rankings ``MEMBER``, and ``query`` says which
rows are one list. Of tokens ``sequence``: rows of one are its tokens, in their order.
"""

# M members, N rows, C classes, K values

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.data.labelled import match_labels
from quorate.tuning.data.side_columns import numbers_of, side_column, weights_of
from quorate.tuning.data.tables import read_columns
from quorate.tuning.errors import DataError

SPLIT, GROUP, TIME, WEIGHT, SEQUENCE, QUERY = "split", "group", "time", "weight", "sequence", "query"
SOLVE, JUDGE = "solve", "judge"


@dataclass(frozen=True)
class Predictions:
    """What members predicted of labelled rows.

    Attributes:
        names: of the M members.
        classes: names; none where values are predicted.
        outputs: (M, N, C) probabilities, or (M, N, K) values; NaN in a row that the member did not answer.
        labels: (N,) index of the true class, or float of the true value; (N, K) of several.
        judged: (N,) bool, rows to judge on; None where that is left open.
        groups, times, weights: (N,) each, or None.
        sequences: (N,) rows of one are its tokens, in this order; None where rows are no tokens.
        levels: of quantiles, the K values of a row.
        queries: (N,) the list that a row is an entry of; its label says how relevant it is. None where rows are no
            entries.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    outputs: NDArray[Any]
    labels: NDArray[Any]
    judged: NDArray[np.bool_] | None = None
    groups: NDArray[Any] | None = None
    times: NDArray[Any] | None = None
    weights: NDArray[np.float64] | None = None
    sequences: NDArray[Any] | None = None
    levels: tuple[float, ...] = ()
    queries: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.labels)


def read_predictions(path: str | Path, label: str = "label") -> Predictions:
    """Read .parquet, .csv, .arrow, .feather or .npz.

    Raises:
        DataError: it cannot be read, a column is missing or of another kind, or labels are no classes.
    """
    path = Path(path)
    columns = read_columns(path, text=(label,))
    several = [name.removeprefix(f"{label}/") for name in columns if name.startswith(f"{label}/")]
    if label not in columns and not several:
        found = f"it has {', '.join(list(columns)[:10])}"
        raise DataError(path.name, f"no column {label!r}", f"{found}; name the column of true classes or values")
    side = {label, *(f"{label}/{output}" for output in several), SPLIT, GROUP, TIME, WEIGHT, SEQUENCE, QUERY}
    outputs = {name: column for name, column in columns.items() if name not in side}
    if not outputs:
        raise DataError(path.name, "no member's column", "name columns MEMBER/CLASS, or MEMBER for values")
    names, parts = _names(path, list(outputs))
    if several and set(parts) != set(several):
        odd = sorted(set(parts) ^ set(several))[0]
        raise DataError(path.name, f"'{odd}' is not both a column of members and of '{label}'", "name all in both")
    levels = () if several else _levels(parts)
    if levels:
        parts = tuple(sorted(parts, key=float))
    classes = () if several or levels else parts
    queries = side_column(path, QUERY, columns)
    if queries is not None and (parts or several):
        raise DataError(
            path.name, f"column {QUERY!r} with several numbers a member", "give each member one score a row"
        )
    if classes:
        labels: NDArray[Any] = match_labels(columns[label], classes, path.name)
    else:
        labels = _true_values(path, label, several, columns)
    stacked = [
        np.stack([numbers_of(path, f"{n}/{c}", outputs) for c in several or parts], axis=1)
        if parts
        else numbers_of(path, n, outputs)[:, None]
        for n in names
    ]
    return Predictions(
        names, classes, np.stack(stacked), labels, _judged(path, columns.get(SPLIT)),
        side_column(path, GROUP, columns), side_column(path, TIME, columns), weights_of(path, WEIGHT, columns),
        side_column(path, SEQUENCE, columns), levels, queries,
    )  # fmt: skip


def _levels(parts: tuple[str, ...]) -> tuple[float, ...]:
    """Ascending, where all parts are levels of quantiles; none where they are classes."""
    try:
        levels = sorted(map(float, parts))
    except ValueError:
        return ()
    return tuple(levels) if levels and levels[0] > 0 and levels[-1] < 1 else ()


def _true_values(path: Path, label: str, several: list[str], columns: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """(N,) of the column, or (N, K) of its parts."""
    named = [f"{label}/{output}" for output in several] or [label]
    found = np.stack([numbers_of(path, name, columns) for name in named], axis=1)
    bad = np.flatnonzero(~np.isfinite(found).all(axis=0))
    if len(bad):
        raise DataError(path.name, f"column {named[bad[0]]!r} holds NaN", "give each row its true value")
    return found if several else found[:, 0]


def _names(path: Path, columns: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Members and classes of the columns, each in the order of its first column."""
    pairs = [column.rpartition("/")[::2] if "/" in column else (column, None) for column in columns]
    names = tuple(dict.fromkeys(name for name, _ in pairs))
    classes = tuple(dict.fromkeys(cls for _, cls in pairs if cls is not None))
    others = ", ".join(("label", SPLIT, GROUP, TIME, WEIGHT, SEQUENCE, QUERY))
    fix = f"name all columns MEMBER/CLASS, or all MEMBER for values; others are {others}"
    plain = [name for name, cls in pairs if cls is None]
    if classes and plain:
        raise DataError(path.name, f"column {plain[0]!r} names no class", fix)
    for name in names if classes else ():
        missing = [cls for cls in classes if f"{name}/{cls}" not in columns]
        if missing:
            raise DataError(path.name, f"no column '{name}/{missing[0]}'", "give each member a column for each class")
    if len(classes) == 1 and not _levels(classes):
        raise DataError(path.name, f"one class, {classes[0]!r}", "give each member a column for each class")
    return names, classes


def _judged(path: Path, column: NDArray[Any] | None) -> NDArray[np.bool_] | None:
    if column is None:
        return None
    words = column.astype(str)
    other = sorted(set(words.tolist()) - {SOLVE, JUDGE})
    if other:
        raise DataError(path.name, f"column '{SPLIT}' says {other[0]!r}", f"write {SOLVE} or {JUDGE}")
    judged: NDArray[np.bool_] = words == JUDGE
    if judged.all() or not judged.any():
        found = f"all rows are to {JUDGE if judged.all() else SOLVE}"
        raise DataError(path.name, found, f"give rows to {SOLVE} on and others to {JUDGE} on, or no column '{SPLIT}'")
    return judged
