"""Data sets as Hugging Face's ``save_to_disk`` leaves them: Arrow streams in a folder, read with pyarrow alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quorate.deployments.errors import RowsError
from quorate.deployments.rows.tables.table import Table
from quorate.fusion.extras import require

_STATE, _SPLITS = "state.json", "dataset_dict.json"


def is_saved_dataset(folder: Path) -> bool:
    return (folder / _STATE).is_file() or (folder / _SPLITS).is_file()


def open_saved_dataset(folder: Path) -> Table:
    """The rows of one split.

    Raises:
        RowsError: the folder holds several splits, or files of it are missing.
    """
    require("arrow", "reading a data set")
    from quorate.deployments.rows.tables.arrow_files import open_arrow

    if not (folder / _STATE).is_file():
        splits = _read(folder / _SPLITS).get("splits", [])
        fix = f"give one of them, such as {folder / str(splits[0])}" if splits else "save it again"
        raise RowsError(str(folder), f"a data set of {', '.join(map(str, splits)) or 'no splits'}", fix)
    names = [str(item.get("filename")) for item in _read(folder / _STATE).get("_data_files", [])]
    paths = [folder / Path(name).name for name in names]
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        raise RowsError(str(folder), f"no file {', '.join(missing) or 'of rows'}", "save the data set again")
    return open_arrow(paths, folder.name)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RowsError(str(path), f"cannot be read ({error})", "save the data set again") from None
    return found if isinstance(found, dict) else {}
