"""An answer as a client has it: arrays by name, what the server says of them, and a table to look at."""

# B rows

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from quorate.deployments.display import Displayed, Table

Array = NDArray[Any]
SHOWN_ROWS, SHOWN_NUMBERS = 20, 8
# Of shares: half precision, and a bit of slack.
_SUM_WITHIN = 1e-2


@dataclass(frozen=True, repr=False)
class Result(Displayed):
    """An answer.

    Attributes:
        outputs: by name, (B, ...) each.
        parameters: what the server says about it: revision, members_used, ...
        classes: what the columns of the first output stand for; none where the client does not know.
    """

    outputs: Mapping[str, Array]
    parameters: Mapping[str, Any]
    classes: Sequence[str] = ()

    @property
    def prediction_sets(self) -> list[list[str] | None] | None:
        """For each row the classes of which one is the true one with probability ``conformal_coverage``; None for a row
        that members answered of whom nothing is known, and where the ensemble promises no sets.
        """
        found: list[list[str] | None] | None = self._by_row("prediction_sets")
        return found

    @property
    def prediction_intervals(self) -> list[list[float] | None] | None:
        """The same of values: for each row the ends of an interval."""
        found: list[list[float] | None] | None = self._by_row("prediction_intervals")
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

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        outputs = {name: _plain(array) for name, array in self.outputs.items()}
        return {"outputs": outputs, "parameters": dict(self.parameters)}

    def tables(self) -> Sequence[Table]:
        """The likeliest class of each row, or its numbers where they are no shares, and the answer's parameters."""
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
        return [Table(("row", name, "value"), rows, lines=parameters)]

    def _likeliest(self, scores: Array) -> tuple[str, str]:
        if scores.dtype.kind not in "biuf" or not scores.size:
            return "", str(scores.tolist())
        if scores.min() < 0 or abs(float(scores.sum()) - 1) > _SUM_WITHIN:  # values, quantiles, scores, decisions
            more = " ..." if len(scores) > SHOWN_NUMBERS else ""
            return "", " ".join(f"{number:.4f}" for number in scores[:SHOWN_NUMBERS].tolist()) + more
        best = int(scores.argmax())
        label = self.classes[best] if len(self.classes) == len(scores) else str(best)
        return label, f"{scores[best]:.4f}"


def _plain(array: Array) -> Any:
    """Lists of numbers or text."""
    if array.dtype != object:
        return array.tolist()
    text = [item.decode(errors="replace") if isinstance(item, bytes) else item for item in array.ravel().tolist()]
    return np.array(text, dtype=object).reshape(array.shape).tolist()
