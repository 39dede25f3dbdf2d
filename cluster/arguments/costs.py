"""What each decision costs, from what a user has: a table in a .csv file, or numbers."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

Costs = str | Path | Sequence[Sequence[float]]


def as_costs(given: Costs | None, classes: Sequence[str]) -> Sequence[Sequence[float]] | None:
    """(C, C) numbers in the order of the classes: the true class down, the decision across.

    Args:
        given: such numbers, or a .csv file whose first row and first column name the classes, in any order.
        classes: names.

    Raises:
        TuningError: the file cannot be read, or does not name the classes.
    """
    from quorate.tuning.errors import TuningError

    if given is None or not isinstance(given, (str, Path)):
        return given
    fix = f"give a table whose first row and first column name the classes: {', '.join(classes[:10])}"
    try:
        with Path(given).open(newline="") as file:
            header, *rows = [row for row in csv.reader(file) if row]
        table = {
            row[0].strip(): dict(zip(map(str.strip, header[1:]), map(float, row[1:]), strict=True)) for row in rows
        }
        return [[table[true][decided] for decided in classes] for true in classes]
    except OSError as error:
        raise TuningError("costs", f"{given}: {error.strerror}", fix) from None
    except KeyError as error:
        raise TuningError("costs", f"{given} has no class {error.args[0]!r}", fix) from None
    except (ValueError, IndexError, csv.Error):
        raise TuningError("costs", f"{given} is no table of numbers", fix) from None
