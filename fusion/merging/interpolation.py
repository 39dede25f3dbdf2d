"""Spherical interpolation between two members' parameters (Shoemake 1985, SIGGRAPH)."""

from __future__ import annotations

import torch
from torch import Tensor

from quorate.fusion.errors import RuleOptionError
from quorate.fusion.merging.checkpoints import State, check_members, combine

# Nearer than this the arc is its chord, and the sines below cancel.
_COLINEAR = 0.9995


def slerp(start: State, end: State, t: float) -> dict[str, Tensor]:
    """Walk from one member to the other along the arc, tensor by tensor.

    Each tensor is a vector; the angle is between directions and lengths are carried along:
    ``sin((1-t) a) / sin(a) * start + sin(t a) / sin(a) * end``. Tensors of nearly one direction (cosine above
    0.9995) or of length zero are interpolated linearly.

    Args:
        start: the state dict at t = 0.
        end: the state dict at t = 1.
        t: in [0, 1].

    Raises:
        RuleOptionError: t lies outside.
        FusionError: the two cannot be mixed, see ``check_members``.
    """
    if not 0 <= t <= 1:
        raise RuleOptionError("slerp", "t", t, "give a number in [0, 1]")
    members = {"0-start": start, "1-end": end}  # combine goes by name
    check_members(members)
    return combine(members, lambda key, pair: _slerp(pair[0], pair[1], t))


def _slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    lengths = a.norm() * b.norm()
    cosine = (a * b).sum() / lengths if lengths > 0 else torch.ones((), dtype=a.dtype)
    if cosine.abs() > _COLINEAR:
        return (1 - t) * a + t * b
    angle = torch.arccos(cosine)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
