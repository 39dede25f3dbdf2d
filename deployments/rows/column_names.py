"""Which columns of a table an input is read from: its namesake, or those that the user says.

A namesake may be called as no input can: ``sepal length (cm)`` is that of ``sepal_length_cm``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from quorate.deployments.errors import RowsError
from quorate.deployments.rows.tables.table import UNNAMED, Table
from quorate.deployments.spec.model_files.input_names import plain_name

# Input -> its column, several with commas between them, or a pattern such as pixel*; each a number of one vector.
ColumnNames = Mapping[str, str | Sequence[str]]


def sources_of(table: Table, inputs: Iterable[str], columns: ColumnNames | None = None) -> dict[str, tuple[str, ...]]:
    """The columns that each input is made of.

    Raises:
        RowsError: a column is not there or is there twice, or a name is given for what is no input.
    """
    wanted, columns = list(inputs), dict(columns or {})
    for name in columns:
        if name not in wanted:
            raise RowsError(
                table.source, f"a column for '{name}', which is no input", f"inputs are {', '.join(wanted)}"
            )
    if table.names == (UNNAMED,):
        if len(wanted) != 1:
            fix = "give columns with these names: .npz, .parquet, .csv, or a .json object"
            raise RowsError(table.source, f"holds one array but the model reads {', '.join(wanted)}", fix)
        return {wanted[0]: (UNNAMED,)}
    found = {name: _found(table, name, columns.get(name, name)) for name in wanted}
    _check_once(table, [part for parts in found.values() for part in parts])
    return found


def check_named(table: Table, names: Sequence[str]) -> None:
    """Refuse a table without these columns, which are no inputs.

    Raises:
        RowsError: one is not there, or is there twice.
    """
    for name in names:
        if name not in table.names:
            raise RowsError(table.source, f"no column '{name}'", f"it has {_listed(table)}; say which of them it is")
    _check_once(table, names)


def _check_once(table: Table, names: Iterable[str]) -> None:
    """A file may have a name twice, and nobody can tell which is meant."""
    for name in names:
        if table.names.count(name) > 1:
            raise RowsError(table.source, f"column '{name}' is there twice", "give each column a name of its own")


def _listed(table: Table) -> str:
    return ", ".join(table.names[:30]) + (", ..." if len(table.names) > 30 else "")


def _found(table: Table, name: str, asked: str | Sequence[str]) -> tuple[str, ...]:
    parts = [asked] if asked in table.names else asked.split(",") if isinstance(asked, str) else list(asked)
    found: list[str] = []
    for part in parts:
        matching = [part] if part in table.names else [one for one in table.names if fnmatchcase(one, part)]
        called_so = [one for one in table.names if plain_name(one) == plain_name(part)]
        matching = matching or (called_so if len(called_so) == 1 else [])
        if not matching:
            whose = "" if part == name else f" for input '{name}'"
            fix = f"it has {_listed(table)}; name it as the spec does, or say --column {name}=COLUMN"
            raise RowsError(table.source, f"no column '{part}'{whose}", fix)
        found += matching
    return tuple(found)
