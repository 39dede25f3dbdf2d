"""What every source of rows is: named columns, given a few thousand rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from quorate.deployments.rows.column import Column

BATCH_ROWS = 4096
BATCH_BYTES = 16 << 20
# The column of a source that is one array and names none: .npy, or rows as a bare JSON array.
UNNAMED = ""


class Table(Protocol):
    """Rows with named columns.

    Attributes:
        source: what errors call it.
        names: of its columns; ``(UNNAMED,)`` where it is one array.
    """

    source: str
    names: tuple[str, ...]

    def batches(self, names: Sequence[str]) -> Iterator[dict[str, Column]]:
        """These columns, some rows at a time, in their order; of no rows nothing.

        Raises:
            RowsError: the source is damaged, or a column cannot be read.
        """
