"""A record of answers with labels as predictions: members were run already, by whoever asked."""

# M members, N rows, C classes, K values

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.learning.answer_columns import AnswersMetadata
from quorate.deployments.learning.labels import Label, true_arrays
from quorate.deployments.learning.reading import Record, RecordedRows, open_record
from quorate.deployments.spec.digests import pin
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.transport.row_state import RowState
from quorate.deployments.wire.arrow_tensors import read_column
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.data.later.more_rows import MoreRows
from quorate.tuning.data.later.row_keys import answer_keys
from quorate.tuning.data.later.same_member import same_member
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
    return _predictions(str(location), _labelled_parts(open_record(location), str(location), output))


def more_of_record(location: str | Path, spec: EnsembleSpec, folder: Path) -> MoreRows:
    """Rows of a record that have a label, for an ensemble of the same members; inputs where the record keeps them.

    What a member gave counts where it is the one that the spec has, by the digests of its settings, files and code.

    Raises:
        DataError: no row has a label, answers are of another kind than the spec's, or a fusion chose whom they ask.
        RequestError: there is no record at this place.
    """
    record = open_record(location)
    parts = _labelled_parts(record, str(location), "")
    about = parts[-1].rows.about
    task, classes = spec.inferred_task, spec.classes or ()
    if (about.classes, about.task, about.quantiles) != (classes, task, spec.quantiles or ()):
        found = f"answers of the task {about.task} over classes {', '.join(about.classes[:5]) or 'none'}"
        raise DataError(str(location), found, "give a record of the spec's own ensemble")
    parts = [part for part in parts if _alike(part.rows.about, about)]
    inputs = _inputs(spec, parts)
    if not inputs:
        _check_all_asked(str(location), spec.output_fusion.members, parts)
    given = _predictions(str(location), parts, spec.output_fusion.members)
    same = _SameMembers(record, spec, folder)
    outputs, others = {}, {}
    for name, output in zip(given.names, given.outputs, strict=True):
        foreign = np.concatenate([np.full(len(p.places), same.is_another(name, p.rows.about)) for p in parts])
        outputs[name] = np.where(foreign[:, None], np.float32("nan"), output)
        if foreign.any():
            others[name] = int(foreign.sum())
    keys = np.concatenate([answer_keys(p.rows.ids[p.places], p.rows.numbers[p.places].tolist()) for p in parts])
    one_moment = given.times is None or given.times.min() == given.times.max()
    times = None if one_moment else given.times
    rows = Labelled(inputs, given.labels, classes, given.queries, times)
    return MoreRows(keys, rows, outputs, others)


def _labelled_parts(record: Record, source: str, output: str) -> list[_Part]:
    """Rows that have a label, batch by batch in the order of time.

    Raises:
        DataError: there are none, or there are several outputs and none is named.
    """
    labels, parts, outputs = record.labels(), list[_Part](), dict[str, AnswersMetadata]()
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
        raise DataError(source, f"outputs {', '.join(several)}", f"name one: --label {several[0]}")
    if not parts:
        raise DataError(source, "no row has a label", "give labels for recorded answers: quorate feedback")
    parts.sort(key=lambda part: int(part.rows.times_us[0]))
    return parts


def _predictions(source: str, parts: Sequence[_Part], names: tuple[str, ...] = ()) -> Predictions:
    about = parts[-1].rows.about
    if about.of_tokens or about.layers != about.members:
        what = "tokens" if about.of_tokens else "features"
        raise DataError(source, f"members give {what}", "tune the spec on labelled rows: quorate tune SPEC --data")
    parts = [part for part in parts if _alike(part.rows.about, about)]
    names = names or about.members
    outputs = np.concatenate([_outputs(part, names) for part in parts], axis=1)
    times = np.concatenate([part.rows.times_us[part.places] for part in parts])
    labels = true_arrays(about.classes, about.task, [label for part in parts for label in part.labels])
    classes = () if about.task == "multilabel" else about.classes
    queries = None
    if about.task == "ranking":
        ids = np.concatenate([part.rows.ids[part.places] for part in parts])
        queries = np.unique(ids.astype(str), return_inverse=True)[1]
    return Predictions(names, classes, outputs, labels, times=times, levels=about.quantiles, queries=queries)


def _check_all_asked(source: str, names: Sequence[str], parts: Sequence[_Part]) -> None:
    """Refuse rows of which some were chosen, by what is asked, to ask few: the others are no sample of all.

    Raises:
        DataError: there are some.
    """
    unasked = rows = 0
    for part in parts:
        known = [at for at, name in enumerate(part.rows.about.members) if name in names]
        unasked += int((part.rows.states[known][:, part.places] == int(RowState.UNASKED)).any(axis=0).sum())
        rows += len(part.places)
    if unasked:
        found = f"{unasked} of {rows} labelled rows did not ask all members, as their fusion chose"
        raise DataError(source, found, "record with inputs: true, so that the others can be asked now")


class _SameMembers:
    """Whether the members of recorded revisions are those of a spec."""

    def __init__(self, record: Record, spec: EnsembleSpec, folder: Path):
        self._record, self._spec = record, pin(spec, folder)
        self._known: dict[tuple[str, str], bool] = {}
        self._specs: dict[str, EnsembleSpec | None] = {}

    def is_another(self, name: str, about: AnswersMetadata) -> bool:
        """Whether answers are those of another member of this name, rather than of it or of none."""
        return name in about.members and not self._same(about.revision, name)

    def _same(self, revision: str, name: str) -> bool:
        if revision not in self._specs:
            self._specs[revision] = self._record.spec(revision)
        if (revision, name) not in self._known:
            found = self._specs[revision]
            self._known[revision, name] = found is not None and same_member(name, found, self._spec)
        return self._known[revision, name]


def _inputs(spec: EnsembleSpec, parts: Sequence[_Part]) -> dict[str, NDArray[Any]]:
    """(N, *shape) by request input; none where a part has not kept them all."""
    if any(set(part.rows.about.inputs) != set(spec.inputs) for part in parts):
        return {}
    found = {}
    for name, tensor in spec.inputs.items():
        columns = [(part, part.rows.batch.column(f"input/{name}")) for part in parts]
        arrays = [read_column(name, column, tensor.datatype, tensor.shape)[part.places] for part, column in columns]
        if len({array.shape[1:] for array in arrays}) > 1:
            rows = np.empty(sum(map(len, arrays)), dtype=object)
            rows[:] = [row for array in arrays for row in array]
            found[name] = rows
        else:
            found[name] = np.concatenate(arrays)
    return found


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
