"""Labels as callers have them: for a result, for answers by their ids, or one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quorate.deployments.client.result import Result
from quorate.deployments.errors import RequestError
from quorate.deployments.wire.answer_id import ANSWER_ID, rows_of
from quorate.deployments.wire.feedback import GivenLabel


def given_labels(
    answers: Result | str | Sequence[str] | Sequence[GivenLabel], labels: Any, rows: Sequence[int] | None, output: str
) -> list[GivenLabel]:
    """One for each row that is meant; see ``Client.feedback``.

    Raises:
        RequestError: there are more labels than rows, or fewer.
    """
    if isinstance(answers, Result):
        places = rows_of(str(answers.parameters.get(ANSWER_ID, "")))
        if not places:
            raise RequestError("nothing of this answer was recorded; deploy with record: {folder: ...}")
    elif isinstance(answers, str):
        if rows is None and not _is_list(labels):
            labels = [labels]
        count = len(labels) if rows is None else len(rows)
        places = [(answers, at) for at in (range(count) if rows is None else rows)]
    elif labels is None and all(isinstance(one, GivenLabel) for one in answers):
        return [one for one in answers if isinstance(one, GivenLabel)]
    else:
        numbers = [0] * len(answers) if rows is None else rows
        if len(numbers) != len(answers):
            raise RequestError(f"{len(numbers)} rows for {len(answers)} answers; give each answer its row")
        places = [(str(answer), int(row)) for answer, row in zip(answers, numbers, strict=True)]
    given = _listed(labels)
    if len(given) != len(places):
        raise RequestError(f"{len(given)} labels for {len(places)} rows; give each row its label")
    return [GivenLabel(answer, label, row, output) for (answer, row), label in zip(places, given, strict=True)]


def _is_list(labels: Any) -> bool:
    return not isinstance(labels, str | bytes) and hasattr(labels, "__len__")


def _listed(labels: Any) -> list[Any]:
    if not _is_list(labels):
        return [labels]
    return list(labels.tolist() if hasattr(labels, "tolist") else labels)
