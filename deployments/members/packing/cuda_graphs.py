"""A forward pass on a GPU without launching its kernels one by one: recorded for some numbers of rows, and replayed."""

# K networks, B rows

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# Of tensors (B, ...) on the device, (K, B, ...) there.
Way = Callable[[Sequence[Tensor]], Tensor]
# Before a recording what is run allocates, and chooses its algorithms, which a recording cannot.
_WARM_UPS, _TIMED = 3, 5


@dataclass(frozen=True)
class Recording:
    """What was recorded of a pass: ``replay`` runs it again and leaves its result in ``output``."""

    replay: Callable[[], None]
    output: Tensor


class Stream(Protocol):
    """Where passes run and are recorded; ``CudaStream`` on a GPU."""

    def active(self) -> AbstractContextManager[object]:
        """A context in which kernels and copies go to it."""

    def host(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A buffer on this side, from and to which copies do not wait."""

    def device(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A buffer over there."""

    def record(self, run: Callable[[], Tensor]) -> Recording:
        """Record what a function does."""

    def wait(self) -> None:
        """Until all that was given to it is done."""


class CudaStream:
    """A stream of its own for the members of a group, and one pool of memory for all that is recorded on it."""

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def active(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._stream)

    def host(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(*shape, dtype=dtype, pin_memory=True)

    def device(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        with self.active():
            return torch.zeros(*shape, dtype=dtype, device=self._device)

    def record(self, run: Callable[[], Tensor]) -> Recording:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))  # where parameters came from
        with self.active():
            for _ in range(_WARM_UPS):
                run()
        self.wait()
        graph = torch.cuda.CUDAGraph()
        # Of this thread alone: what another member's thread allocates meanwhile is none of it.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            output = run()
        return Recording(graph.replay, output)

    def wait(self) -> None:
        self._stream.synchronize()


class Graphs:
    """Passes recorded for numbers of rows, largest first, so that smaller ones find their memory in the pool.

    Of two ways to the same result the one that replays faster is kept. All is to be called in inference mode.

    Attributes:
        sizes: numbers of rows that are recorded, ascending.
        way: by number of rows which of the ways was kept.
    """

    def __init__(
        self,
        stream: Stream,
        ways: Sequence[Way],
        example: Sequence[Tensor],
        sizes: Sequence[int],
        agree: Callable[[Tensor, Tensor], bool],
        padded: bool,
    ):
        """
        Args:
            ways: of which each gives the result; as it comes the first is right, and what is recorded has to ``agree``.
            example: one row at least of each input, on the CPU.
            sizes: numbers of rows to record.
            padded: rows of another number run with some that are thrown away; else they are not run here.
        """
        most = max(sizes)
        self._stream, self._agree, self._padded = stream, agree, padded
        self._row = [(tensor.shape[1:], tensor.dtype) for tensor in example]
        self._host = [stream.host((most, *shape), dtype) for shape, dtype in self._row]
        self._device = [stream.device((most, *shape), dtype) for shape, dtype in self._row]
        for buffer, tensor in zip(self._host, example, strict=True):
            buffer.copy_(tensor[torch.arange(most) % len(tensor)])
        with stream.active():
            self._upload(most)
        self.way: dict[int, int] = {}
        self._recorded: dict[int, tuple[Recording, Tensor]] = {}
        for size in sorted(sizes, reverse=True):
            found = self._record(ways, size)
            if found is not None:
                self._recorded[size] = found
        self.sizes = sorted(self._recorded)

    def size_for(self, tensors: Sequence[Tensor]) -> int | None:
        """The recorded number of rows that these would run as; None where nothing is recorded for them."""
        if any((t.shape[1:], t.dtype) != row for t, row in zip(tensors, self._row, strict=True)):
            return None
        rows = len(tensors[0])
        if self._padded:
            return next((size for size in self.sizes if size >= rows), None)
        return rows if rows in self._recorded else None

    def __call__(self, tensors: Sequence[Tensor], size: int) -> Tensor:
        """(K, B, ...) of (B, ...), both on the CPU; the next call overwrites it.

        Args:
            size: of ``size_for``.
        """
        rows = len(tensors[0])
        recording, answer = self._recorded[size]
        for buffer, tensor in zip(self._host, tensors, strict=True):
            buffer[:rows].copy_(tensor)
        with self._stream.active():
            self._upload(rows)
            recording.replay()
            answer.copy_(recording.output, non_blocking=True)
        self._stream.wait()
        return answer[:, :rows]

    def _upload(self, rows: int) -> None:
        for there, here in zip(self._device, self._host, strict=True):
            there[:rows].copy_(here[:rows], non_blocking=True)

    def _record(self, ways: Sequence[Way], size: int) -> tuple[Recording, Tensor] | None:
        """The faster of the ways and a buffer for what it gives; None where none agrees, recorded, with the first."""
        inputs = [buffer[:size] for buffer in self._device]
        with self._stream.active():
            right = ways[0](inputs)
        self._stream.wait()
        best, best_s = None, float("inf")
        for number, way in enumerate(ways):
            recording = self._stream.record(lambda way=way: way(inputs))  # type: ignore[misc]
            seconds = self._replay_s(recording)
            if seconds < best_s and self._agree(recording.output.cpu(), right.cpu()):
                best, best_s, self.way[size] = recording, seconds, number
        return None if best is None else (best, self._stream.host(best.output.shape, best.output.dtype))

    def _replay_s(self, recording: Recording) -> float:
        """Seconds of a pass, the least of some."""
        found = []
        for _ in range(_TIMED):
            started = time.perf_counter()
            with self._stream.active():
                recording.replay()
            self._stream.wait()
            found.append(time.perf_counter() - started)
        return min(found)


def sizes_up_to(most: int) -> list[int]:
    """Numbers of rows to record: powers of two, and the most that there may be."""
    return sorted({most, *(1 << power for power in range(most.bit_length()) if 1 << power <= most)})
