"""Tensors that several networks of a process have alike, such as a common checkpoint's, are held once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn


def share_tensors(networks: Iterable[nn.Module]) -> int:
    """Have parameters that are equal to the bit use one memory; for networks that nobody trains any more.

    Whole networks of one checkpoint hold it once, and so do heads that were trained on one frozen network. Buffers stay
    each network's own: some are written by a forward pass.

    Returns:
        the bytes that this frees.
    """
    known: dict[tuple[object, ...], list[Tensor]] = defaultdict(list)
    seen: set[int] = set()
    freed = 0
    for tensor in _parameters(networks):
        if id(tensor) in seen or not tensor.numel() or not tensor.is_contiguous():
            continue
        seen.add(id(tensor))
        alike = known[(tensor.shape, tensor.dtype, tensor.device)]
        first = next((other for other in alike if _equal(other, tensor)), None)
        if first is None:
            alike.append(tensor)
        elif first.data_ptr() != tensor.data_ptr():
            freed += tensor.nbytes
            tensor.data = first.data
    if freed and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()  # so that the driver, and what is measured, have it back
    return freed


def _parameters(networks: Iterable[nn.Module]) -> Iterator[Tensor]:
    for network in networks:
        for part in network.modules():
            if not isinstance(part, nn.RNNBase):  # cuDNN wants all of its in one piece
                yield from part.parameters(recurse=False)


def _equal(one: Tensor, other: Tensor) -> bool:
    """To the bit: zeros of either sign differ, and so do NaNs, which equal no other."""
    return one.data_ptr() == other.data_ptr() or torch.equal(_bits(one), _bits(other))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().reshape(-1).view(torch.uint8)
