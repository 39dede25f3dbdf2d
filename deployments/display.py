"""How results show themselves: tables and sentences, as text, as HTML in a notebook, and by rich on a terminal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Table:
    """Cells as they are shown; without rows only the title and the lines are."""

    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    title: str = ""
    lines: Sequence[str] = ()

    def text(self) -> str:
        """Columns padded to their widths, then the lines."""
        shown = [self.title] if self.title else []
        if self.rows:
            cells = [self.columns, *self.rows]
            widths = [max(len(row[place]) for row in cells) for place in range(len(self.columns))]
            shown += [
                "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
            ]
        return "\n".join([*shown, *self.lines])

    def html(self) -> str:
        parts = [f"<caption>{escape(self.title)}</caption>" if self.title else ""]
        if self.rows:
            parts.append("<tr>" + "".join(f"<th>{escape(name)}</th>" for name in self.columns) + "</tr>")
            parts += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows]
        lines = "".join(f"<div>{escape(line)}</div>" for line in self.lines)
        return (f"<table>{''.join(parts)}</table>" if any(parts) else "") + lines


class Displayed(ABC):
    """A result that a person may look at: ``tables`` says what is shown, here is how."""

    @abstractmethod
    def tables(self) -> Sequence[Table]:
        """What a person wants to see of it."""

    def __repr__(self) -> str:
        return "\n".join(table.text() for table in self.tables())

    def _repr_html_(self) -> str:
        return "".join(table.html() for table in self.tables())
