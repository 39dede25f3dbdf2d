"""A record of answers with labels as predictions: members were run already, by whoever asked."""

# M members, N rows, C classes, K values

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.learning.answer_columns import AnswersMetadata
from quorate.deployments.learning.labels import Label, true_arrays
from quorate.deployments.learning.reading import RecordedRows, open_record
from quorate.deployments.transport.row_state import RowState
from quorate.tuning.data.predictions_file import Predictions
from quorate.tuning.errors import DataError


@dataclass(frozen=True)
class _Part:
    """Labelled rows of one batch: numbers of rows, and what is true of each."""

    rows: RecordedRows
    places: NDArray[np.intp]
    labels: list[Label]


def read_record(location: str | Path, output: str = "") -> Predictions:
    """What members gave of the rows that have a label; those that answered later come later.

    A member that was not asked, or did not answer, has NaN there. Members are those of the newest revision.

    Args:
        output: of several outputs the one that is meant.

    Raises:
        DataError: no row has a label, or there are several outputs and none is named.
        RequestError: there is no record at this place.
    """
    record = open_record(location)
    labels, parts, outputs = record.labels(), [], dict[str, AnswersMetadata]()
    for rows in record.rows():
        outputs[rows.about.output] = rows.about
        if rows.about.several and rows.about.output != output:
            continue
        found = labels.of(rows)
        places = np.array([at for at, label in enumerate(found) if label is not None], np.intp)
        if len(places):
            parts.append(_Part(rows, places, [label for label in found if label is not None]))
    several = [name for name, about in outputs.items() if about.several]
    if several and output not in several:
        raise DataError(str(location), f"outputs {', '.join(several)}", f"name one: --label {several[0]}")
    if not parts:
        raise DataError(str(location), "no row has a label", "give labels for recorded answers: quorate feedback")
    parts.sort(key=lambda part: int(part.rows.times_us[0]))
    return _predictions(str(location), parts)


def _predictions(source: str, parts: Sequence[_Part]) -> Predictions:
    about = parts[-1].rows.about
    if about.of_tokens or about.layers != about.members:
        what = "tokens" if about.of_tokens else "features"
        raise DataError(source, f"members give {what}", "tune the spec on labelled rows: quorate tune SPEC --data")
    parts = [part for part in parts if _alike(part.rows.about, about)]
    names = about.members
    outputs = np.concatenate([_outputs(part, names) for part in parts], axis=1)
    times = np.concatenate([part.rows.times_us[part.places] for part in parts])
    labels = true_arrays(about.classes, about.task, [label for part in parts for label in part.labels])
    classes = () if about.task == "multilabel" else about.classes
    queries = None
    if about.task == "ranking":
        ids = np.concatenate([part.rows.ids[part.places] for part in parts])
        queries = np.unique(ids.astype(str), return_inverse=True)[1]
    return Predictions(names, classes, outputs, labels, times=times, levels=about.quantiles, queries=queries)


def _alike(one: AnswersMetadata, other: AnswersMetadata) -> bool:
    return (one.classes, one.shape, one.task) == (other.classes, other.shape, other.task)


def _outputs(part: _Part, names: Sequence[str]) -> NDArray[np.float32]:
    """(M, n, C) with NaN where a member gave nothing."""
    rows, places = part.rows, part.places
    given = rows.outputs.reshape(*rows.outputs.shape[:2], -1)
    found = np.full((len(names), len(places), given.shape[2]), np.nan, np.float32)
    for at, name in enumerate(names):
        if name in rows.about.members:
            member = rows.about.members.index(name)
            there = rows.states[member, places] == int(RowState.OK)
            found[at, there] = given[member, places[there]]
    return found
