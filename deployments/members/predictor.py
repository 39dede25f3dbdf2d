"""One member's forward pass as the ensemble wants it: rows that fail cost only themselves."""

# B batch, C the ensemble's classes

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.errors import MemberLoadError
from quorate.deployments.member_traceback import own_lines
from quorate.deployments.members.class_order import ClassOrder
from quorate.deployments.members.output_alignment import Alignment, blank_nonfinite
from quorate.deployments.sources.content.row_errors import BadRowsError
from quorate.deployments.sources.failures import load_error
from quorate.deployments.sources.model import Model
from quorate.deployments.sources.outputs import OutputError
from quorate.deployments.sources.remote.server import DownError, UnreachableError
from quorate.deployments.spec.model_files.example_content import content_of
from quorate.deployments.spec.schema import MemberJob, MemberSpec, token_input
from quorate.deployments.transport.row_state import RowState
from quorate.deployments.wire.datatypes import datatype_of, has_name

Array = NDArray[Any]


# Forward passes for a batch that raises, beyond the 2 log2(B) that find one poison row. Without a limit a batch of
# nothing else takes 2B - 1 of them, on the thread that everybody waits for.
SPARE_PASSES = 16


class Predictor:
    """Runs a model over a batch and says of each row whether it may be used.

    Attributes:
        name: the member's.
        inputs: what it reads, in its order.
        max_batch_size: rows that the model takes at once.
        threads: that it may compute with.
        datatype: of what the model returned when it was warmed up; empty before.
        dims: the shape of a row of it, -1 where a size is free.
        last_error: what it failed with last; empty for nothing. ``last_trace`` has the lines of its own code.
        on_failure: told of every forward pass that failed.
    """

    def __init__(self, model: Model, job: MemberJob):
        self.model = model
        self._job = job
        self._spec = job.member
        self.name, self.inputs, self.max_batch_size = job.name, job.member.inputs, job.member.max_batch_size
        self.threads = max(1, int(job.member.resources.num_cpus))
        self._alignment = Alignment(job.member, job.classes)
        self._order: ClassOrder | None = None
        self._tokens = token_input(job.member, job.lengths) if job.of_tokens else None
        self.last_error = self.last_trace = ""
        self.on_failure: Callable[[Exception], None] = lambda error: None
        self.device_lost = False
        self.datatype = ""
        self.dims: tuple[int, ...] = ()

    @property
    def spec(self) -> MemberSpec:
        """The member."""
        return self._spec

    @property
    def reads_fixed_numbers(self) -> bool:
        """Whether it reads nothing but numbers of the request, as they are, in rows of one size."""
        read = [self._job.inputs.get(name) for name in self.inputs]
        fixed = all(one is not None and one.datatype != "BYTES" and -1 not in one.shape for one in read)
        return fixed and not self._spec.preprocess

    def warm_up(self) -> None:
        """Run an example through the model, so that the first request finds everything compiled and allocated.

        Raises:
            MemberLoadError: the model fails on it, or its output does not fit the spec.
        """
        example = self.example(rows=2)
        if example is None:
            return
        try:
            self._remember(self._forward(example))
        except DownError as error:  # another server's, which may be up before anybody asks
            self.note(error)
        except OutputError as error:
            raise MemberLoadError(self.model.name, error.found, error.fix) from None
        except Exception as error:
            what = "the model fails on an example input"
            raise load_error(self.model.name, what, error, self._fix_of_example()) from error

    def example(self, rows: int) -> dict[str, Array] | None:
        """Rows to try it on; None of one that reads other members: what they give is not known before they run."""
        example = self.model.example(self._job.inputs, rows=rows, lengths=self._job.lengths)
        return None if len(example) < len(self._spec.inputs) else example

    def _fix_of_example(self) -> str:
        """What to do where the model fails on the example."""
        known = content_of([self._spec])
        for name, tensor in self._job.inputs.items():
            if name in known:
                continue
            place = f"say what rows it takes: inputs.{name}.example"
            if tensor.example is None and tensor.datatype == "BYTES":
                return f"{place}, a file such as it reads (tried: no byte)"
            if tensor.example is None and -1 in tensor.shape:
                return f"{place}, the shape of one (tried: {list(tensor.example_shape)})"
        return "check inputs and config in the spec"

    def _remember(self, output: Array) -> None:
        """What the model returns for a row; where rows have a free size, so may what it returns."""
        free = any(-1 in tensor.shape for tensor in self._job.inputs.values())
        known = 0 if self._alignment.num_outputs is None else 1  # of the last dimensions
        self.datatype = datatype_of(output)
        dims = output.shape[1:]
        self.dims = tuple(-1 if free and place < len(dims) - known else size for place, size in enumerate(dims))

    def run_chunked(
        self, inputs: Mapping[str, Array], probabilities: bool, output: Array | None = None
    ) -> tuple[Array, NDArray[np.uint8]]:
        """The same as ``run`` of more rows than the model takes at once."""
        rows, most = len(next(iter(inputs.values()))), self.max_batch_size
        if rows <= most or output is not None:
            return self.run(inputs, probabilities, output)
        cuts = [slice(at, at + most) for at in range(0, rows, most)]
        return join([self.run({name: array[cut] for name, array in inputs.items()}, probabilities) for cut in cuts])

    def run(
        self, inputs: Mapping[str, Array], probabilities: bool, output: Array | None = None
    ) -> tuple[Array, NDArray[np.uint8]]:
        """Run a batch.

        Args:
            inputs: (B, *shape) each.
            probabilities: give what a fusion reads, such as (B, C) float32 over the ensemble's classes, instead of
                what the model returns.
            output: what the model has returned for these rows, where that is known.

        Returns:
            (B, ...) the output with unusable rows zeroed, and (B,) RowState.
        """
        rows = len(next(iter(inputs.values())))
        whole = None if self.device_lost else self._try(inputs, rows, output)
        raw, status = self._run_halves(inputs, rows) if whole is None else whole
        raw = self._without_padding(raw, inputs)
        finite = blank_nonfinite(raw, status)
        if finite is not raw:
            self.note(OutputError("the model returned NaN or infinity"))
        return (self._alignment.fusable(finite, status) if probabilities else finite), status

    def reads_as(self, other: Predictor) -> bool:
        """Whether fusions read rows of classes of both alike, in the model's own order, and nothing else."""
        kinds = (self._tokens, self._job.lengths, self.model.classes, other.model.classes)
        return (
            kinds == (None,) * len(kinds)
            and self._alignment.num_outputs is not None
            and self._alignment == other._alignment
        )

    def fusable(self, outputs: Sequence[Array], rows: int) -> Array | None:
        """What a fusion reads of what several members gave that are read as this one; None where a row is no good.

        Args:
            outputs: (B, K) each, of B rows.

        Returns:
            (M, B, C), the same bits as ``run`` gives for each.
        """
        shape = (rows, self._alignment.num_outputs)
        for one in outputs:
            if one.shape != shape or one.dtype != np.float32:
                return None
        joined = np.concatenate(outputs)
        if self.device_lost or not np.isfinite(joined).all():
            return None
        return self._alignment.of_good_rows(joined).reshape(len(outputs), rows, -1)

    def _without_padding(self, raw: Array, inputs: Mapping[str, Array]) -> Array:
        """The output with zeros behind the last token of each row: what a model says there, NaN too, means nothing."""
        lengths = self._job.lengths
        if lengths is None or raw.ndim < 3:
            return raw
        padding = np.arange(raw.shape[1]) >= inputs[lengths].reshape(-1, 1)
        return np.where(padding.reshape(*padding.shape, *[1] * (raw.ndim - 2)), raw.dtype.type(0), raw)

    def _run_halves(self, inputs: Mapping[str, Array], rows: int) -> tuple[Array, NDArray[np.uint8]]:
        """Run the halves of rows that raise together, and of these halves again: a poison row is found in 2 log2(B)
        passes.

        Larger parts come first, so that the good rows are found even where several are bad; what is still undecided
        when the passes are spent fails.
        """
        left = 2 * (rows - 1).bit_length() + SPARE_PASSES
        parts: dict[int, tuple[Array, NDArray[np.uint8]]] = {}  # by first row
        if rows == 1 or self.device_lost:
            return _failed(rows, RowState.ERROR)
        undecided = deque([(0, rows // 2), (rows // 2, rows)])
        while undecided:
            start, stop = undecided.popleft()
            part = None
            if left and not self.device_lost:
                left -= 1
                part = self._try({name: array[start:stop] for name, array in inputs.items()}, stop - start)
            if part is not None:
                parts[start] = part
            elif stop - start > 1 and left and not self.device_lost:
                middle = (start + stop) // 2
                undecided += [(start, middle), (middle, stop)]
            else:
                parts[start] = _failed(stop - start, RowState.ERROR)
        return join([parts[start] for start in sorted(parts)]) if len(parts) > 1 else parts[0]

    def _try(
        self, inputs: Mapping[str, Array], rows: int, output: Array | None = None
    ) -> tuple[Array, NDArray[np.uint8]] | None:
        """What the model gives for these rows; None when it raises."""
        try:
            return self._forward(inputs, output), np.zeros(rows, dtype=np.uint8)
        except OutputError as error:
            self.note(error)
            return _failed(rows, RowState.SHAPE)
        except UnreachableError as error:
            self.note(error)
            return _failed(rows, RowState.ERROR)
        except BadRowsError as error:
            self.note(error)
            return self._try_others(inputs, rows, sorted(error.rows))
        except Exception as error:  # a member may raise anything at all; its row is what we know about
            self.note(error)
            self.device_lost = self.device_lost or _is_device_loss(error)
            return None

    def note(self, error: Exception) -> None:
        """What it gave, or did not, is of no use."""
        self.last_error = (
            str(error) if isinstance(error, OutputError | BadRowsError) else f"{type(error).__name__}: {error}"
        )
        self.last_trace = own_lines(error)
        self.on_failure(error)

    def _try_others(
        self, inputs: Mapping[str, Array], rows: int, wrong: Sequence[int]
    ) -> tuple[Array, NDArray[np.uint8]] | None:
        """What the model gives without the rows that cannot be read, which fail; None when it raises."""
        good = np.delete(np.arange(rows), wrong)
        if not len(good):
            return _failed(rows, RowState.ERROR)
        part = self._try({name: array[good] for name, array in inputs.items()}, len(good))
        if part is None:
            return None
        values = np.zeros((rows, *part[0].shape[1:]), part[0].dtype)
        status = np.full(rows, RowState.ERROR, dtype=np.uint8)
        values[good], status[good] = part
        return values, status

    def _forward(self, inputs: Mapping[str, Array], output: Array | None = None) -> Array:
        output = self.model.predict(inputs) if output is None else output
        rows = len(next(iter(inputs.values())))
        if output.ndim == 0 or output.shape[0] != rows or not output.size:
            raise OutputError(f"the model returned shape {list(output.shape)} for {rows} rows")
        if output.dtype.kind not in "biuf" or not has_name(output.dtype):
            raise OutputError(f"the model returned dtype {output.dtype}, which is no number")
        expected = self._alignment.num_outputs
        if expected is None:
            return output
        output = self._ordered(output)
        if self._tokens is not None:
            tokens = inputs[self._tokens].shape[1]
            if output.shape != (rows, tokens, expected):
                found = f"the model returned {list(output.shape[1:])} values a row"
                raise OutputError(f"{found} but has {expected} classes for each of {tokens} tokens")
        elif output.shape != (rows, expected):
            found = f"the model returned {list(output.shape[1:])} values a row"
            raise OutputError(f"{found} but has {expected} classes")
        return output

    def _ordered(self, output: Array) -> Array:
        """(..., C) with its columns in the order in which the spec has the classes, where the model names its own."""
        own = self.model.classes
        if own is None:
            return output
        if self._order is None or self._order.own != own:  # some models know them once they have run
            self._order = ClassOrder(own, self._job)
        return self._order.put(output)


def _failed(rows: int, state: RowState) -> tuple[Array, NDArray[np.uint8]]:
    return np.zeros((rows, 0), np.float32), np.full(rows, state, dtype=np.uint8)


def _is_device_loss(error: Exception) -> bool:
    """Whether the device is of no use to this process any more. Before torch 2.8 that was a RuntimeError."""
    return type(error).__name__ == "AcceleratorError" or (
        isinstance(error, RuntimeError) and str(error).startswith(("CUDA error", "HIP error"))
    )


def join(parts: Sequence[tuple[Array, NDArray[np.uint8]]]) -> tuple[Array, NDArray[np.uint8]]:
    """Put the parts of a batch together again; one whose rows are of another shape than most cannot be used."""
    rows_by_shape: Counter[tuple[int, ...]] = Counter()
    for values, status in parts:
        rows_by_shape[values.shape[1:]] += int((status == RowState.OK).sum())
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
            statuses[rows][status == RowState.OK] = RowState.SHAPE
        at += len(status)
    return joined, statuses
