"""From what a member returns to what a fusion reads: probabilities over the ensemble's classes, aligned by name."""

# B batch, C the ensemble's classes, K the member's own classes

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.spec.schema import MemberSpec
from quorate.deployments.transport.row_state import RowState

Array = NDArray[Any]


class Alignment:
    """How one member's output is read.

    Attributes:
        num_outputs: K, for a member whose output has classes.
    """

    def __init__(self, member: MemberSpec, classes: Sequence[str] | None):
        own = member.classes or (tuple(classes) if classes else None)
        has_classes = member.output in ("logits", "probabilities")
        self._output, self._num_classes = member.output, len(classes or ())
        self.num_outputs = len(own) if own and has_classes else None
        self._columns = _columns(own, classes) if has_classes else None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Alignment):
            return NotImplemented
        ours, theirs = (
            (self._output, self._num_classes, self.num_outputs),
            (other._output, other._num_classes, other.num_outputs),
        )
        return ours == theirs and np.array_equal(self._columns, other._columns)  # type: ignore[arg-type]

    __hash__ = None  # type: ignore[assignment]

    def fusable(self, raw: Array, status: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What a fusion reads of a member's output.

        Args:
            raw: (B, ...) what the model returned, unusable rows zeroed.
            status: (B,) RowState; rows that overflow float32 are marked in it.

        Returns:
            (B, C) probabilities, or (B, T, C) of T tokens, or (B, F) features, or (B, ...) values in the model's own
            shape, float32, unusable rows zeroed.
        """
        if np.count_nonzero(status) == len(status):  # OK is 0
            return raw
        values = self.of_good_rows(raw)
        return values if raw.dtype == np.float32 else blank_nonfinite(values, status)

    def of_good_rows(self, raw: Array) -> NDArray[np.float32]:
        """The same of (B, ...) that has no unusable rows, or looks at none of them."""
        with np.errstate(over="ignore", invalid="ignore"):  # float64 may be finite where float32 is not
            values = raw.astype(np.float32, copy=False)
            if self._output == "logits":
                values = _softmax(values)
            elif self._output == "features" or values.ndim == 1:
                values = values.reshape(len(values), -1)
        if self._columns is not None:
            aligned = np.zeros((*values.shape[:-1], self._num_classes), dtype=np.float32)
            aligned[..., self._columns] = values
            values = aligned
        return values


def blank_nonfinite(values: Array, status: NDArray[np.uint8]) -> Array:
    """Zero the rows that hold NaN or infinity and mark them as such."""
    if values.dtype.kind in "biu":
        return values
    finite = np.isfinite(values)
    if finite.all():
        return values
    bad = ~finite.reshape(len(values), -1).all(axis=1)
    status[bad & (status == RowState.OK)] = RowState.NONFINITE
    blanked: Array = np.where(bad.reshape(-1, *[1] * (values.ndim - 1)), values.dtype.type(0), values)
    return blanked


def _columns(own: Sequence[str] | None, ensemble: Sequence[str] | None) -> NDArray[np.intp] | None:
    """Where each of the member's classes stands among the ensemble's; None when they are the same list."""
    if own is None or ensemble is None or tuple(own) == tuple(ensemble):
        return None
    place = {name: column for column, name in enumerate(ensemble)}
    return np.array([place[name] for name in own], dtype=np.intp)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    # np.max and np.sum are these, behind some Python: half of the time of a small batch.
    shares: NDArray[np.float32] = logits - np.maximum.reduce(logits, axis=-1, keepdims=True)
    np.exp(shares, out=shares)
    shares /= np.add.reduce(shares, axis=-1, keepdims=True)
    return shares
