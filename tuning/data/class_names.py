"""Names of classes, and which of them a label says: as text, or as the number that a name reads as."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

# A name such as 010 or +1 is text: a number that is written so is another name.
_NUMERAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")


class ClassNames:
    """Looks labels up among the names of classes."""

    def __init__(self, names: Sequence[str]):
        self._by_name = {name: index for index, name in enumerate(names)}
        numbers = {name: number for name in names if (number := _number(name)) is not None}
        counts = Counter(numbers.values())  # of 1.0 and 1 only the text tells which is meant
        self._by_number = {number: self._by_name[name] for name, number in numbers.items() if counts[number] == 1}

    def index(self, label: Any) -> int | None:
        """Which class a label is; None where it is none."""
        if isinstance(label, bool | np.bool_):
            words = ("true", "True", "TRUE", "1") if label else ("false", "False", "FALSE", "0")
            return next((self._by_name[word] for word in words if word in self._by_name), None)
        text = _text(label)
        if text in self._by_name:
            return self._by_name[text]
        number = _number(text)
        return None if number is None else self._by_number.get(number)


def are_places(labels: Iterable[Any], names: Sequence[str]) -> bool:
    """Whether labels are places in the list of classes, from 0, as data sets for networks have them.

    Only where they cannot be anything else: whole numbers below the number of classes, and no class is called by a
    number that is not its own place.
    """
    numbers = [None if isinstance(label, bool | np.bool_) else _number(_text(label)) for label in labels]
    if not all(number is not None and number == int(number) and 0 <= number < len(names) for number in numbers):
        return False
    said = [[int(digits) for digits in re.findall(r"[0-9]+", name)] for name in names]
    return not any(_number(name) is not None for name in names) and all(
        not found or found == [place] for place, found in enumerate(said)
    )


def _text(label: Any) -> str:
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _NUMERAL.fullmatch(text) else None
