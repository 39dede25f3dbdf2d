"""An answer as a client has it: arrays by name, what the server says of them, frames, and a table to look at."""

# B rows, C classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from quorate.deployments.display import Displayed, Table
from quorate.deployments.rows.uneven import is_uneven
from quorate.deployments.wire.class_names import read_classes

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Array = NDArray[Any]
SHOWN_ROWS, SHOWN_NUMBERS = 20, 8
# Of shares: half precision, and a bit of slack.
_SUM_WITHIN = 1e-2
# From this share on one of several classes is true of a row.
LIKELY = 0.5
# Parameters of an output that say what its columns are, not how the answer came about.
_OF_COLUMNS = ("classes", "task")
# What a member said is the output of this name.
_SAID = ".output"


@dataclass(frozen=True, repr=False)
class Result(Displayed):
    """An answer.

    Attributes:
        outputs: by name, (B, ...) each; (B,) arrays where rows have other shapes.
        parameters: what the server says about it: revision, members_used, ...
        classes: what the columns of the first output stand for; none where it has no classes.
        task: ``multilabel`` where several classes are true of a row.
        output_parameters: of an ensemble of several outputs what the server says about each; ``result["topic"]`` is
            that output as a result of its own.
        index: of the pandas frame that was asked about.
    """

    outputs: Mapping[str, Array]
    parameters: Mapping[str, Any]
    classes: Sequence[str] = ()
    task: str = ""
    output_parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    index: Any = field(default=None, compare=False)

    def __getitem__(self, output: str) -> Result:
        said = self.output_parameters.get(output, self.parameters)
        mine = {name: array for name, array in self.outputs.items() if name.startswith(f"{output}.")}
        parts = {name.removeprefix(f"{output}."): array for name, array in mine.items()}
        classes, task = said.get("classes"), said.get("task", self.task)
        known = self.classes if output not in self.output_parameters else read_classes(classes)
        about = {key: value for key, value in said.items() if key not in _OF_COLUMNS}
        return Result({output: self.outputs[output], **parts}, about, tuple(known), task, index=self.index)

    @property
    def labels(self) -> list[Any] | None:
        """For each row its likeliest class, or all that are true of it where several may be (0.5 and above); None for
        a row that was abstained from, and where the first output has no classes.
        """
        values = next(iter(self.outputs.values()), None)
        if values is None or values.dtype == object or values.ndim != 2 or values.shape[1] != len(self.classes):
            return None
        abstained = set(map(int, str(self.parameters.get("rows_abstained", "")).split()))
        if self.task == "multilabel":
            found: list[Any] = [
                [name for name, share in zip(self.classes, row, strict=True) if share >= LIKELY]
                for row in values.tolist()
            ]
        else:
            found = [self.classes[best] for best in values.argmax(axis=1).tolist()]
        return [None if row in abstained else label for row, label in enumerate(found)]

    @property
    def prediction_sets(self) -> list[list[str] | None] | None:
        """For each row the classes of which one is the true one with probability ``conformal_coverage``, or the labels
        among which all true ones are; None for a row that members answered of whom nothing is known, and where the
        ensemble promises no sets.
        """
        found: list[list[str] | None] | None = self._by_row("prediction_sets")
        return found

    @property
    def prediction_intervals(self) -> list[Any] | None:
        """The same of values: for each row the two ends of an interval; of several values a list of these, which all
        hold theirs at once.
        """
        found: list[Any] | None = self._by_row("prediction_intervals")
        return found

    @property
    def tags(self) -> list[list[str]] | None:
        """For each row the tag of each of its tokens; None where the ensemble does not tag."""
        if "tags" not in self.outputs:
            return None
        return [[tag.decode() for tag in row if tag] for row in self.outputs["tags"].tolist()]

    @property
    def spans(self) -> list[list[dict[str, Any]]] | None:
        """For each row the spans that its tags say: ``start``, ``end`` (behind the last), ``class`` and ``score``."""
        if "spans" not in self.outputs:
            return None
        return [orjson.loads(row) for row in self.outputs["spans"].tolist()]

    def _by_row(self, name: str) -> Any:
        return orjson.loads(self.parameters[name]) if name in self.parameters else None

    def to_pandas(self) -> pd.DataFrame:
        """A row for each row: ``label`` and a column for each class, or the outputs' numbers, of several outputs behind
        their names; the index of the frame that was asked about, and the answer's parameters under ``attrs``.
        """
        import pandas as pd

        frame = pd.DataFrame(self._columns(), index=self.index)
        frame.attrs.update(self.parameters)
        return frame

    def to_polars(self) -> pl.DataFrame:
        """The same for polars, which has no index."""
        import polars as pl

        return pl.DataFrame(self._columns())

    def _columns(self) -> dict[str, Any]:
        if len(self.output_parameters) > 1:
            each = {name: self[name]._columns() for name in self.output_parameters}
            return {
                column if column.partition(".")[0] == name else f"{name}.{column}": values
                for name, columns in each.items()
                for column, values in columns.items()
            }
        labels = self.labels
        found: dict[str, Any] = {} if labels is None else {"label": labels}
        for place, (name, array) in enumerate(self.outputs.items()):
            of_classes = not place and labels is not None and "label" not in self.classes
            if array.ndim == 1 or array.shape[1:] == (1,):
                found[name] = _column(array.reshape(-1))
            elif array.ndim == 2:
                named = self.classes if array.shape[1] == len(self.classes) else range(array.shape[1])
                for column, what in enumerate(named):
                    found[str(what) if of_classes else f"{name}.{what}"] = _column(array[:, column])
            else:
                found[name] = _plain(array)
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        outputs = {name: _plain(array) for name, array in self.outputs.items()}
        named = {"classes": list(self.classes)} if self.classes else {}
        several = {name: dict(said) for name, said in self.output_parameters.items()}
        more = {"output_parameters": several} if several else {}
        return {"outputs": outputs, "parameters": dict(self.parameters), **named, **more}

    def tables(self) -> Sequence[Table]:
        """The likeliest class of each row, or its numbers where they are no shares, and the answer's parameters; where
        it is explained also what each member said, and its share of the row. Of several outputs each by itself.
        """
        if len(self.output_parameters) > 1:
            return [table for name in self.output_parameters for table in self[name].tables()]
        parameters = [f"{key}: {value}" for key, value in self.parameters.items() if value != ""]
        if not self.outputs:
            return [Table(lines=parameters)]
        tags = self.tags
        if tags is not None:
            tagged = [(str(row), " ".join(said)) for row, said in enumerate(tags[:SHOWN_ROWS])]
            if len(tags) > SHOWN_ROWS:
                tagged.append(("...", f"{len(tags) - SHOWN_ROWS} more; outputs has all"))
            return [Table(("row", "tags"), tagged, lines=parameters)]
        name, values = next(iter(self.outputs.items()))
        rows = [
            (str(row), *self._likeliest(scores))
            for row, scores in enumerate(values[:SHOWN_ROWS].reshape(len(values[:SHOWN_ROWS]), -1))
        ]
        if len(values) > SHOWN_ROWS:
            rows.append(("...", f"{len(values) - SHOWN_ROWS} more", "outputs has all"))
        explained = self._explained(name)
        return [Table(("row", name, "value"), rows, lines=parameters), *([explained] if explained.rows else [])]

    def _explained(self, fused: str) -> Table:
        """By row and member; a member that is missing from a row has no share of it, and nothing to show."""
        members = [name[: -len(_SAID)] for name in self.outputs if name.endswith(_SAID)]
        rows = []
        for row in range(min(len(self.outputs[fused]), SHOWN_ROWS) if members else 0):
            for member in members:
                share = self.outputs.get(f"{member}.contribution")
                part = f"{float(share[row].mean()):.4f}" if share is not None else ""
                rows.append((str(row), member, *self._likeliest(self.outputs[f"{member}{_SAID}"][row].ravel()), part))
        return Table(("row", "member", "says", "value", "share"), rows)

    def _likeliest(self, scores: Array) -> tuple[str, str]:
        if scores.dtype.kind not in "biuf" or not scores.size:
            return "", str(scores.tolist())
        if scores.min() < 0 or abs(float(scores.sum()) - 1) > _SUM_WITHIN:  # values, quantiles, scores, decisions
            more = " ..." if len(scores) > SHOWN_NUMBERS else ""
            return "", " ".join(f"{number:.4f}" for number in scores[:SHOWN_NUMBERS].tolist()) + more
        best = int(scores.argmax())
        label = self.classes[best] if len(self.classes) == len(scores) else str(best)
        return label, f"{scores[best]:.4f}"


def _column(array: Array) -> Any:
    return _plain(array) if array.dtype == object else array


def _plain(array: Array) -> Any:
    """Lists of numbers or text."""
    if array.dtype != object:
        return array.tolist()
    if is_uneven(array):
        return [_plain(row) for row in array]
    text = [item.decode(errors="replace") if isinstance(item, bytes) else item for item in array.ravel().tolist()]
    return np.array(text, dtype=object).reshape(array.shape).tolist()
