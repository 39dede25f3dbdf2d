"""JSON: an object of columns, records, the rows of one input, a request of the protocol, or a record a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quorate.deployments.errors import RowsError
from quorate.deployments.rows.column import Column, Place
from quorate.deployments.rows.nested_lists import column_of
from quorate.deployments.rows.tables.table import BATCH_ROWS, UNNAMED

_FIX = "give an object of columns, a list of records, or a record a line"


class ListsTable:
    """Columns that are lists in memory."""

    def __init__(self, source: str, columns: Mapping[str, Sequence[Any]]):
        """Raises RowsError where they have different lengths."""
        self.source, self.names, self._columns = source, tuple(columns), columns
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{count} rows of '{name}'" for name, count in lengths.items())
            raise RowsError(source, found, "give as many of each")

    def batches(self, names: Sequence[str]) -> Iterator[dict[str, Column]]:
        rows = len(self._columns[names[0]]) if names else 0
        for at in range(0, rows, BATCH_ROWS):
            yield {
                name: column_of(self._columns[name][at : at + BATCH_ROWS], Place(self.source, name, at))
                for name in names
            }


class LinesTable:
    """A record a line, read as it goes. Columns are those of the first records; others that follow do not count."""

    def __init__(self, path: Path):
        self.source, self._path = path.name, path
        first = next(self._records(), [])
        self.names = tuple(dict.fromkeys(name for record in first for name in record))

    def batches(self, names: Sequence[str]) -> Iterator[dict[str, Column]]:
        start = 0
        for records in self._records():
            yield {
                name: column_of([record.get(name) for record in records], Place(self.source, name, start))
                for name in names
            }
            start += len(records)

    def _records(self) -> Iterator[list[dict[str, Any]]]:
        found: list[dict[str, Any]] = []
        with _opened(self._path) as file:
            try:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        found.append(self._record(line, number))
                    if len(found) == BATCH_ROWS:
                        yield found
                        found = []
            except UnicodeDecodeError:
                raise RowsError(self.source, "text that is no UTF-8", "write it as UTF-8") from None
        if found:
            yield found

    def _record(self, line: str, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RowsError(self.source, f"line {number} is not JSON ({error})", "write a record a line") from None
        if not isinstance(record, dict):
            raise RowsError(self.source, f"line {number} is no record but {line.strip()[:40]}", "write objects")
        return record


def open_json(path: Path) -> ListsTable | LinesTable:
    """A .json file, whichever of these it holds.

    Raises:
        RowsError: it holds none of them.
    """
    try:
        with _opened(path) as file:
            data = json.load(file)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return LinesTable(path)
        raise RowsError(path.name, f"not JSON ({error})", _FIX) from None
    except (ValueError, RecursionError) as error:
        raise RowsError(path.name, f"not JSON ({error})", _FIX) from None
    return ListsTable(path.name, _columns(path.name, data))


def _opened(path: Path) -> Any:
    try:
        return path.open(encoding="utf-8-sig")
    except OSError as error:
        raise RowsError(str(path), f"cannot be read ({error.strerror})", "give the path of a file") from None


def _columns(source: str, data: Any) -> dict[str, list[Any]]:
    if isinstance(data, dict) and isinstance(data.get("inputs"), list) and _is_request(data["inputs"]):
        return {item["name"]: _tensor(source, item) for item in data["inputs"]}
    if isinstance(data, dict):
        return {str(name): _listed(source, name, column) for name, column in data.items()}
    if isinstance(data, list) and data and all(isinstance(record, dict) for record in data):
        names = dict.fromkeys(name for record in data for name in record)
        return {name: [record.get(name) for record in data] for name in names}
    if isinstance(data, list):
        return {UNNAMED: data}
    raise RowsError(source, f"it holds {str(data)[:40]}", _FIX)


def _listed(source: str, name: str, column: Any) -> list[Any]:
    if isinstance(column, list):
        return column
    if isinstance(column, dict):  # pandas writes columns as objects by row
        return list(column.values())
    raise RowsError(source, f"'{name}' is no list of values but {str(column)[:40]}", _FIX)


def _is_request(items: list[Any]) -> bool:
    return bool(items) and all(isinstance(item, dict) and {"name", "shape", "data"} <= set(item) for item in items)


def _tensor(source: str, item: Mapping[str, Any]) -> list[Any]:
    """The rows of a tensor as the protocol's JSON has it, its data flat or nested."""
    data, shape = item["data"], item["shape"]
    if not isinstance(data, list) or not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise RowsError(source, f"'{item['name']}' is no tensor", "give shape and data as lists")
    rows = shape[0] if shape else 0
    if len(data) == rows:
        return data
    if rows < 1 or len(data) % rows:
        raise RowsError(source, f"'{item['name']}' has {len(data)} elements for {rows} rows", "give whole rows")
    step = len(data) // rows
    return [data[at : at + step] for at in range(0, len(data), step)]
