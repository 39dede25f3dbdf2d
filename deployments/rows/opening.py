"""Whatever holds rows, opened by its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quorate.deployments.errors import RowsError
from quorate.deployments.rows.tables.frames import is_frame, open_frame
from quorate.deployments.rows.tables.json_files import LinesTable, open_json
from quorate.deployments.rows.tables.media_folders import open_media_folder
from quorate.deployments.rows.tables.numpy_files import ArraysTable, open_numpy
from quorate.deployments.rows.tables.saved_datasets import is_saved_dataset, open_saved_dataset
from quorate.deployments.rows.tables.table import Table
from quorate.fusion.extras import require

# A path, a frame of pandas, polars or Arrow, a Hugging Face data set, or arrays by name.
RowsLike = Any
KINDS = ".csv, .tsv, .parquet, .arrow, .feather, .json, .jsonl, .npz, .npy, or a folder of them"


def open_rows(given: RowsLike) -> Table:
    """Open what holds rows; nothing but names is read yet where that can be.

    Raises:
        RowsError: it is of no kind that is known, or damaged.
        MissingExtraError: it needs pyarrow, which is not installed.
    """
    if isinstance(given, str | Path):
        return _open_path(Path(given))
    if is_frame(given):
        return open_frame(given)
    if isinstance(given, Mapping):
        return ArraysTable("the arrays", {str(name): np.asarray(array) for name, array in given.items()})
    raise RowsError("the rows", f"they are a {type(given).__name__}", "give a file, a data frame, or arrays by name")


def _open_path(path: Path) -> Table:
    if path.is_dir():
        return open_saved_dataset(path) if is_saved_dataset(path) else open_media_folder(path, _open_path)
    if not path.is_file():
        raise RowsError(str(path), "no such file", f"give a {KINDS}")
    kind = path.suffix.lower()
    if kind == ".gz":
        kind = Path(path.stem).suffix.lower()
        if kind not in (".csv", ".tsv"):
            raise RowsError(path.name, "a compressed file of another kind than .csv", "unpack it")
    if kind not in _OPENERS:
        raise RowsError(path.name, f"unknown kind '{path.suffix}'", f"give a {KINDS}")
    return _OPENERS[kind](path)


def _parquet(path: Path) -> Table:
    require("arrow", "reading .parquet")
    from quorate.deployments.rows.tables.arrow_files import open_parquet

    return open_parquet(path)


def _arrow(path: Path) -> Table:
    require("arrow", f"reading {path.suffix}")
    from quorate.deployments.rows.tables.arrow_files import open_arrow

    return open_arrow([path], path.name)


def _delimited(path: Path) -> Table:
    require("arrow", "reading .csv")
    from quorate.deployments.rows.tables.delimited_files import open_delimited

    return open_delimited(path, "\t" if ".tsv" in path.suffixes else ",")


_OPENERS: dict[str, Callable[[Path], Table]] = {
    ".parquet": _parquet, ".arrow": _arrow, ".feather": _arrow, ".csv": _delimited, ".tsv": _delimited,
    ".json": open_json, ".jsonl": LinesTable, ".ndjson": LinesTable, ".npy": open_numpy, ".npz": open_numpy,
}  # fmt: skip
