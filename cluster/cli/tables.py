"""What the commands print: results as rich shows them, errors as one sentence, progress beside them on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group

    from quorate.deployments.display import Displayed


def show(result: Displayed, data: Any, as_json: bool) -> None:
    """Print a result, for people as it shows itself, for machines as one JSON object."""
    if as_json:
        print(json.dumps(data))
        return
    from rich.console import Console

    lines_only = not any(table.rows for table in result.tables())
    shown = repr(result) if lines_only else rendered(result)
    Console(highlight=False, soft_wrap=lines_only).print(shown, markup=False)


def rendered(result: Displayed) -> Group:
    """The tables with the terminal's borders, each followed by its lines."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = []
    for table in result.tables():
        if table.rows:
            grid = Table(title=Text(table.title) if table.title else None, title_justify="left")
            for name in table.columns:
                grid.add_column(Text(name))
            for row in table.rows:
                grid.add_row(*map(Text, row))
            parts.append(grid)
        elif table.title:
            parts.append(Text(table.title))
        parts += table.lines
    return Group(*parts)


@contextmanager
def progress(first: str, as_json: bool) -> Iterator[Callable[[str], None]]:
    """A spinner on a terminal's stderr with the current step; lines where that is a file, nothing for machines."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, quiet=as_json)
    if not console.is_terminal:
        with steps(as_json) as tell:
            yield tell
        return
    with console.status(escape(first)) as status:
        yield lambda step: status.update(escape(step))


@contextmanager
def steps(as_json: bool) -> Iterator[Callable[[str], None]]:
    """A line on stderr for each step; nothing for machines."""
    from rich.console import Console

    console = Console(stderr=True, quiet=as_json, highlight=False)
    yield lambda step: console.print(step, markup=False)
