"""What is said of each of several outputs: one thing for all, or one by the name of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quorate.deployments.spec.suggestions import suggest
from quorate.tuning.errors import TuningError


def by_output(what: str, given: Any, outputs: Sequence[str]) -> dict[str, Any]:
    """By output what was given for it, or for all of them; outputs for which a mapping has nothing are left out.

    Args:
        what: the argument's name, for errors.
        given: a mapping, text such as ``mood=accuracy``, or anything else for all.

    Raises:
        TuningError: a name that is no output's.
    """
    if isinstance(given, str) and "=" in given:
        name, _, value = given.partition("=")
        given = {name.strip(): value.strip()}
    if not isinstance(given, Mapping):
        return dict.fromkeys(outputs, given)
    for name in given:
        if name not in outputs:
            raise TuningError(what, f"'{name}' is no output", suggest(str(name), outputs))
    return dict(given)


def of_the_only(what: str, given: Any) -> Any:
    """What was given, for a spec of one output.

    Raises:
        TuningError: it is by output.
    """
    if isinstance(given, Mapping):
        raise TuningError(what, f"one for {', '.join(map(str, given))}, and there is one output", "give it alone")
    return given
