"""Names of classes: of a label as a model or a table has it, and of an output as its parameter ``classes`` has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson


def class_name(label: Any) -> str:
    """How a spec calls the class that a model or a table calls by a text or a number: 3, 3.0 and "3" are one."""
    if isinstance(label, bytes):
        return label.decode()
    if isinstance(label, float | np.floating) and float(label).is_integer():
        return str(int(label))
    return str(label)


def read_classes(parameter: Any) -> tuple[str, ...]:
    """The names that an output's parameter lists, as JSON; none for anything else, which is another server's."""
    try:
        found = orjson.loads(parameter)
    except (TypeError, ValueError):
        return ()
    return tuple(found) if isinstance(found, list) and all(isinstance(name, str) for name in found) else ()
