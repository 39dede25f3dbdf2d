"""One member's forward pass as the ensemble wants it: rows that fail cost only themselves."""

# B batch, C the ensemble's classes, K the member's own classes

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.framing import RowStatus
from quorate.deployments.models import Model
from quorate.deployments.spec import MemberJob
from quorate.fusion.errors import MemberLoadError

Array = NDArray[Any]


class OutputError(ValueError):
    """The model returned something that is not one row per input row."""


class Predictor:
    """Runs a model over a batch and says of each row whether it may be used."""

    def __init__(self, model: Model, job: MemberJob):
        self.model = model
        self._job = job
        self._spec = job.member
        classes = self._spec.classes or job.classes
        self._columns = _columns(classes, job.classes)
        self._num_outputs = len(classes) if classes and self._spec.output in ("logits", "probabilities") else None
        self.last_error = ""
        self.device_lost = False

    def warm_up(self) -> None:
        """Run zeros through the model, so that the first request finds everything compiled and allocated.

        Raises:
            MemberLoadError: the model fails on them, or its output does not fit the spec.
        """
        example = self.model.example(self._job.inputs, rows=2)
        if len(example) < len(self._spec.inputs):
            return  # reads other members: what they give is not known before they run
        try:
            self._forward(example)
        except OutputError as error:
            raise MemberLoadError(self.model.name, str(error), "check output and classes in the spec") from None
        except Exception as error:
            found = f"the model fails on an example input with {type(error).__name__}: {error}"
            raise MemberLoadError(self.model.name, found, "check inputs and config in the spec") from error

    def run(self, inputs: Mapping[str, Array], probabilities: bool) -> tuple[Array, NDArray[np.uint8]]:
        """Run a batch.

        Args:
            inputs: (B, *shape) each.
            probabilities: give (B, C) float32 over the ensemble's classes instead of what the model returns.

        Returns:
            (B, ...) the output with unusable rows zeroed, and (B,) RowStatus.
        """
        rows = len(next(iter(inputs.values())))
        raw, status = self._run_halves(inputs, rows)
        raw = _blank_nonfinite(raw, status)
        if not probabilities or not (status == RowStatus.OK).any():
            return raw, status
        with np.errstate(over="ignore", invalid="ignore"):  # float64 may be finite where float32 is not
            values = self._probabilities(raw)
        return _blank_nonfinite(values, status), status

    def _run_halves(self, inputs: Mapping[str, Array], rows: int) -> tuple[Array, NDArray[np.uint8]]:
        """Run all rows at once; when that raises, each half on its own: a poison row is found in log2(B) steps."""
        status = np.zeros(rows, dtype=np.uint8)
        try:
            return self._forward(inputs), status
        except OutputError as error:
            self.last_error = str(error)
            status[:] = RowStatus.SHAPE
            return np.zeros((rows, 0), np.float32), status
        except Exception as error:  # a member may raise anything at all; its row is what we know about
            self.last_error = f"{type(error).__name__}: {error}"
            self.device_lost = self.device_lost or type(error).__name__ == "AcceleratorError"
        if rows == 1 or self.device_lost:
            status[:] = RowStatus.ERROR
            return np.zeros((rows, 0), np.float32), status
        half = rows // 2
        parts = [
            self._run_halves({name: array[cut] for name, array in inputs.items()}, size)
            for cut, size in ((slice(0, half), half), (slice(half, None), rows - half))
        ]
        return join(parts)

    def _forward(self, inputs: Mapping[str, Array]) -> Array:
        output = self.model.predict(inputs)
        rows = len(next(iter(inputs.values())))
        if output.ndim == 0 or output.shape[0] != rows or not output.size:
            raise OutputError(f"the model returned shape {list(output.shape)} for {rows} rows")
        if output.dtype.kind not in "biuf":
            raise OutputError(f"the model returned dtype {output.dtype}, which is no number")
        if self._num_outputs is not None and output.shape != (rows, self._num_outputs):
            found = f"the model returned {list(output.shape[1:])} values a row"
            raise OutputError(f"{found} but has {self._num_outputs} classes")
        return output

    def _probabilities(self, raw: Array) -> Array:
        values = raw.astype(np.float32, copy=False)
        if self._spec.output == "logits":
            values = _softmax(values)
        elif self._spec.output == "values":
            values = values.reshape(len(values), -1)
        if self._columns is None or self._job.classes is None or self._num_outputs is None:
            return values
        aligned = np.zeros((len(values), len(self._job.classes)), dtype=np.float32)
        aligned[:, self._columns] = values
        return aligned


def join(parts: Sequence[tuple[Array, NDArray[np.uint8]]]) -> tuple[Array, NDArray[np.uint8]]:
    """Put the parts of a batch together again; one whose rows are of another shape than most cannot be used."""
    rows_by_shape: Counter[tuple[int, ...]] = Counter()
    for values, status in parts:
        rows_by_shape[values.shape[1:]] += int((status == RowStatus.OK).sum())
    shape = rows_by_shape.most_common(1)[0][0]
    dtype = np.result_type(*(values for values, _ in parts if values.shape[1:] == shape))
    joined = np.zeros((sum(len(status) for _, status in parts), *shape), dtype)
    statuses = np.concatenate([status for _, status in parts])
    at = 0
    for values, status in parts:
        rows = slice(at, at + len(status))
        if values.shape[1:] == shape:
            joined[rows] = values
        else:
            statuses[rows][status == RowStatus.OK] = RowStatus.SHAPE
        at += len(status)
    return joined, statuses


def _blank_nonfinite(values: Array, status: NDArray[np.uint8]) -> Array:
    """Zero the rows that hold NaN or infinity and mark them as such."""
    if not np.issubdtype(values.dtype, np.floating):
        return values
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not bad.any():
        return values
    status[bad & (status == RowStatus.OK)] = RowStatus.NONFINITE
    blanked: Array = np.where(bad.reshape(-1, *[1] * (values.ndim - 1)), values.dtype.type(0), values)
    return blanked


def _columns(own: tuple[str, ...] | None, ensemble: tuple[str, ...] | None) -> NDArray[np.intp] | None:
    """Where each of the member's classes stands among the ensemble's; None when they are the same list."""
    if own is None or ensemble is None or own == ensemble:
        return None
    place = {name: column for column, name in enumerate(ensemble)}
    return np.array([place[name] for name in own], dtype=np.intp)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    normalised: NDArray[np.float32] = shifted / shifted.sum(axis=-1, keepdims=True)
    return normalised
