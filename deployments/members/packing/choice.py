"""Whether rows of a shape run faster as one batched pass, without changing a bit of any answer: tried, not assumed."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Outputs = Sequence[Tensor]
# How often both ways are taken before one is chosen, and of how many shapes the choice is kept.
TRIALS, KEPT = 3, 256
# The batched way has to be this much faster: near even, the plain one needs no trust.
GAIN = 1.1


@dataclass
class _Tried:
    """Of one shape.

    Attributes:
        times: how often both ways were taken.
        plain_s, stacked_s: the least that each has taken.
        equal: no bit has differed.
        way: that is taken from now on; None while both are tried.
    """

    times: int = 0
    plain_s: float = float("inf")
    stacked_s: float = float("inf")
    equal: bool = True
    way: Callable[[Sequence[Tensor]], Outputs] | None = None

    @property
    def open(self) -> bool:
        return self.times < TRIALS and self.equal

    @property
    def stacked(self) -> bool:
        return self.equal and self.stacked_s * GAIN < self.plain_s


class Choice:
    """Takes one of two ways to the same outputs, by the shape of the rows.

    The order in which a matrix product adds up depends on its shape, and so on the way. What is answered while a shape
    is new is of the plain way.
    """

    def __init__(self, plain: Callable[[Sequence[Tensor]], Outputs], stacked: Callable[[Sequence[Tensor]], Outputs]):
        self._plain, self._stacked = plain, stacked
        self._tried: OrderedDict[tuple[object, ...], _Tried] = OrderedDict()

    def __call__(self, tensors: Sequence[Tensor]) -> Outputs:
        """What each network gives."""
        tried = self._of(tensors)
        if tried.way is None:
            return self._try(tried, tensors)
        return tried.way(tensors)

    def settle(self, tensors: Sequence[Tensor]) -> str:
        """Try until it is chosen for rows of this shape; what was chosen, and why, in words."""
        tried = self._of(tensors)
        while tried.open:
            self._try(tried, tensors)
        if not tried.equal:
            return "one by one, since bits would differ,"
        return f"{'batched' if tried.stacked else 'one by one'} ({tried.plain_s / tried.stacked_s:.1f}x)"

    def _of(self, tensors: Sequence[Tensor]) -> _Tried:
        key = tuple([(tensor.shape, tensor.dtype) for tensor in tensors])
        tried = self._tried.get(key)
        if tried is None:
            tried = self._tried[key] = _Tried()
            if len(self._tried) > KEPT:
                self._tried.popitem(last=False)
        return tried

    def _try(self, tried: _Tried, tensors: Sequence[Tensor]) -> Outputs:
        plain, plain_s = _timed(self._plain, tensors)
        found, stacked_s = _timed(self._stacked, tensors)
        tried.times += 1
        tried.plain_s, tried.stacked_s = min(tried.plain_s, plain_s), min(tried.stacked_s, stacked_s)
        tried.equal = tried.equal and all(map(same_bits, plain, found))
        if not tried.open:
            tried.way = self._stacked if tried.stacked else self._plain
        return plain


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal to the bit."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(*(tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)))


def _timed(run: Callable[[Sequence[Tensor]], Outputs], tensors: Sequence[Tensor]) -> tuple[Outputs, float]:
    _wait(tensors)
    started = time.perf_counter()
    found = run(tensors)
    _wait(tensors)
    return found, time.perf_counter() - started


def _wait(tensors: Sequence[Tensor]) -> None:
    if tensors[0].is_cuda:
        torch.cuda.current_stream(tensors[0].device).synchronize()
