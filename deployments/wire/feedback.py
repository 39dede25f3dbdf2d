"""Labels for answers that were given before, and what became of each, as they travel in JSON and Arrow.

One label is ``{"id": ..., "label": ...}``, several ``{"labels": [{...}, ...]}``; ``row`` says which of an answer's rows
is meant, ``output`` which of several outputs. In Arrow a record batch has these columns. A label is the name of a
class, the list of those that are true, a tag for each token, a number, or a list of numbers: as the task has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from quorate.deployments.display import Displayed, Table
from quorate.deployments.errors import RequestError

if TYPE_CHECKING:
    import pyarrow as pa

# What becomes of a label. Written now; was there already, the same or another; of an answer that no replica of this
# record gave, that is too old, or was not recorded; no label of this task, or for no row of the answer.
VERDICTS = ("accepted", "again", "contradicting", "unknown", "expired", "unrecorded", "invalid")
TAKEN = ("accepted", "again")
MAX_LABELS, MAX_ID_CHARS = 100_000, 80
# Of labels that were not taken as many are told of one by one.
MAX_TOLD = 100
_FIELDS = {"id", "label", "row", "output"}


@dataclass(slots=True)
class GivenLabel:
    """A label as it came.

    Attributes:
        id: of the answer.
        label: a text, a number, or a list of these.
        row: of the answer's rows.
        output: of several outputs; empty for the only one.
    """

    id: str
    label: Any
    row: int = 0
    output: str = ""


@dataclass(frozen=True)
class Refused:
    """A label that was not taken: its place among those that were sent, its answer, the verdict, and why."""

    index: int
    id: str
    verdict: str
    why: str


@dataclass(frozen=True, repr=False)
class FeedbackReply(Displayed):
    """What became of labels.

    Attributes:
        counts: by verdict.
        refused: the first of those that were not taken.
    """

    counts: Mapping[str, int]
    refused: Sequence[Refused] = field(default_factory=list)

    @classmethod
    def of(cls, found: Iterable[tuple[GivenLabel, str, str]]) -> FeedbackReply:
        """Of labels with verdicts and reasons, in the order in which they came."""
        counts, refused = dict.fromkeys(VERDICTS, 0), list[Refused]()
        for index, (given, verdict, why) in enumerate(found):
            counts[verdict] += 1
            if verdict not in TAKEN and len(refused) < MAX_TOLD:
                refused.append(Refused(index, given.id, verdict, why))
        return cls(counts, refused)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> FeedbackReply:
        """What ``to_dict`` gave."""
        counts = {verdict: int(data.get(verdict, 0)) for verdict in VERDICTS}
        return cls(counts, [Refused(**one) for one in data.get("refused", [])])

    def joined(self, other: FeedbackReply, before: int) -> FeedbackReply:
        """With what became of those that were sent after ``before`` others."""
        counts = dict(Counter(self.counts) + Counter(other.counts))
        later = [Refused(one.index + before, one.id, one.verdict, one.why) for one in other.refused]
        return FeedbackReply(
            {verdict: counts.get(verdict, 0) for verdict in VERDICTS}, [*self.refused, *later][:MAX_TOLD]
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        told = [{"index": r.index, "id": r.id, "verdict": r.verdict, "why": r.why} for r in self.refused]
        return {**self.counts, "refused": told}

    def tables(self) -> Sequence[Table]:
        """The counts, and the first labels that were not taken."""
        found = [f"{count} {verdict}" for verdict, count in self.counts.items() if count]
        rows = [[str(r.index), r.id, r.verdict, r.why] for r in self.refused]
        tables = [Table(lines=[f"labels: {', '.join(found) or 'none'}"])]
        return [*tables, Table(["place", "answer", "verdict", "why"], rows)] if rows else tables


def read_labels(data: Mapping[str, Any]) -> list[GivenLabel]:
    """The labels of a body of JSON.

    Raises:
        RequestError: it holds something else.
    """
    if "labels" not in data:
        return [_label(data, "the body")]
    if len(data) > 1:
        raise RequestError("labels stand beside other fields; send {'labels': [...]} alone, or one label")
    given = data["labels"]
    if not isinstance(given, list) or not given:
        raise RequestError("labels is no list, or empty; send {'labels': [{'id': ..., 'label': ...}]}")
    if len(given) > MAX_LABELS:
        raise RequestError(f"{len(given)} labels in one request; send at most {MAX_LABELS}")
    return [_label(item, f"label {place}") for place, item in enumerate(given)]


def _label(item: Any, where: str) -> GivenLabel:
    if not isinstance(item, dict) or "id" not in item or item.keys() - _FIELDS:
        raise RequestError(f"{where} is no label; send {{'id': ..., 'label': ...}}, and 'row' or 'output' where needed")
    return checked_label(item["id"], item.get("label"), item.get("row", 0), item.get("output", ""), where)


def checked_label(answer: Any, label: Any, row: Any, output: Any, where: str) -> GivenLabel:
    """A label whose parts are of their types.

    Raises:
        RequestError: one is not.
    """
    if not isinstance(answer, str) or len(answer) > MAX_ID_CHARS:
        raise RequestError(f"{where}: id is {str(answer)[:80]!r}; give the answer_id of an answer's parameters")
    if type(row) is not int or row < 0:
        raise RequestError(f"{where}: row is {row!r:.40}; give the number of a row, from 0")
    if not isinstance(output, str):
        raise RequestError(f"{where}: output is {output!r:.40}; give the name of an output, or leave it out")
    return GivenLabel(answer, label, row, output)


def dump_labels(labels: Sequence[GivenLabel]) -> bytes:
    """A body of JSON that ``read_labels`` reads."""
    parts = []
    for given in labels:
        part = {"id": given.id, "label": given.label}
        if given.row:
            part["row"] = given.row
        if given.output:
            part["output"] = given.output
        parts.append(part)
    return orjson.dumps({"labels": parts}, option=orjson.OPT_SERIALIZE_NUMPY)


def read_label_batch(batch: pa.RecordBatch) -> list[GivenLabel]:
    """The same of a record batch with columns ``id`` and ``label``, and ``row`` and ``output`` where needed.

    Raises:
        RequestError: its columns are others.
    """
    names = set(batch.schema.names)
    if not {"id", "label"} <= names or names - _FIELDS or len(names) < len(batch.schema.names):
        raise RequestError(f"columns {', '.join(sorted(names))[:100]}; send id and label, and row or output if needed")
    for name in names:
        _check_type(name, batch.schema.field(name).type)
    rows, count = {name: batch.column(name).to_pylist() for name in names}, batch.num_rows
    numbers, outputs = rows.get("row", [0] * count), rows.get("output", [""] * count)
    parts = zip(rows["id"], rows["label"], numbers, outputs, strict=True)
    return [checked_label(a, b, c or 0, d or "", f"row {place}") for place, (a, b, c, d) in enumerate(parts)]


def _check_type(name: str, found: pa.DataType) -> None:
    from pyarrow import types

    texts = types.is_string(found) or types.is_large_string(found)
    if name == "label":
        inner = found.value_type if types.is_list(found) or types.is_large_list(found) else found
        numbers = types.is_integer(inner) or types.is_float32(inner) or types.is_float64(inner)
        fits = numbers or types.is_string(inner) or types.is_large_string(inner)
    else:
        fits = types.is_integer(found) if name == "row" else texts
    if not fits:
        wanted = {"label": "text, numbers, or lists of these", "row": "whole numbers"}.get(name, "text")
        raise RequestError(f"column {name} holds {str(found)[:60]}; send {wanted}")
