"""Objects with ``preprocess``, ``predict`` and ``postprocess``, called one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def stages(built: Any) -> Callable[..., Any] | None:
    """What calls an object's stages; None for one that has no ``predict`` with another stage before or behind it.

    ``preprocess`` gets the inputs and gives what ``predict`` is called with, several things as a tuple; what that gives
    is the output, or what ``postprocess`` makes of it.
    """
    before, predict, behind = (getattr(built, name, None) for name in ("preprocess", "predict", "postprocess"))
    if predict is None or not (callable(before) or callable(behind)):
        return None

    def run(*arrays: Any) -> Any:
        made = before(*arrays) if before else arrays
        output = predict(*(made if isinstance(made, tuple) else (made,)))
        return behind(output) if behind else output

    return run
