"""Merging by task vectors, the difference between a fine-tuned member and the base it came from.

Task arithmetic: Ilharco et al. 2023 (ICLR). TIES: Yadav et al. 2023 (NeurIPS), algorithm 1. DARE: Yu et al. 2024
(ICML), section 3; it thins the members before any of the other merges.
"""

# M members, N floating-point parameters

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from quorate.fusion.errors import RuleOptionError
from quorate.fusion.merging.checkpoints import State, check_members, combine, is_statistic


def task_arithmetic(base: State, members: Mapping[str, State], scale: float | Mapping[str, float]) -> dict[str, Tensor]:
    """Add the scaled sum of task vectors: ``base + sum of scale_m (member_m - base)``.

    Args:
        base: the state dict that every member was fine-tuned from.
        members: state dict of each member by name.
        scale: one factor for all, or one by member name; below zero a member's task is unlearned.

    Raises:
        RuleOptionError: a scale is missing or not finite.
        FusionError: the members cannot be mixed, see ``check_members``.
    """
    check_members(members, base)
    names = sorted(members)
    scales = dict.fromkeys(names, scale) if isinstance(scale, (int, float)) else scale
    if set(scales) != set(names) or not all(math.isfinite(value) for value in scales.values()):
        raise RuleOptionError("task_arithmetic", "scale", scale, f"give a finite number for each of {', '.join(names)}")
    factors = torch.tensor([scales[name] for name in names], dtype=torch.float64)

    def mix(key: str, stacked: Tensor) -> Tensor:
        origin = base[key].double()
        change: Tensor = torch.tensordot(factors.to(origin.device), stacked - origin, dims=1)
        return origin + change

    return combine(members, mix)


def ties(base: State, members: Mapping[str, State], keep: float = 0.2, scale: float = 1.0) -> dict[str, Tensor]:
    """Trim, elect signs, merge what agrees.

    Of each task vector only its ``keep`` N entries of largest magnitude stay (and those equal to the smallest kept);
    per entry the sign of the sum over members wins; the members of that sign are averaged, and ``scale`` times that
    is added to the base.

    Args:
        base: the state dict that every member was fine-tuned from.
        members: state dict of each member by name.
        keep: share of entries that stay, in (0, 1]; the paper uses 0.2.
        scale: factor on the merged task vector; the paper uses 1.

    Raises:
        RuleOptionError: an option lies outside.
        FusionError: the members cannot be mixed, see ``check_members``.
    """
    if not 0 < keep <= 1:
        raise RuleOptionError("ties", "keep", keep, "give a share in (0, 1]")
    if not math.isfinite(scale):
        raise RuleOptionError("ties", "scale", scale, "give a finite number")
    check_members(members, base)
    cuts = torch.tensor([_cut(base, members[name], keep) for name in sorted(members)], dtype=torch.float64)

    def mix(key: str, stacked: Tensor) -> Tensor:
        origin = base[key].double()
        delta = stacked - origin
        cut = cuts.to(delta.device).view(-1, *[1] * origin.dim())
        trimmed = torch.where(delta.abs() >= cut, delta, 0.0)
        elected = torch.sign(trimmed.sum(dim=0))
        agrees = (torch.sign(trimmed) == elected) & (trimmed != 0)
        merged = torch.where(agrees, trimmed, 0.0).sum(dim=0) / agrees.sum(dim=0).clamp(min=1)
        return origin + scale * merged

    return combine(members, mix)


def _trainable(state: State) -> list[str]:
    return [key for key, tensor in state.items() if tensor.is_floating_point() and not is_statistic(key)]


def _cut(base: State, member: State, keep: float) -> float:
    """Magnitude of the smallest entry of a task vector that stays."""
    magnitudes = torch.cat([(member[key].double() - base[key].double()).abs().flatten() for key in _trainable(base)])
    kept = max(1, round(keep * magnitudes.numel()))
    return float(magnitudes.kthvalue(magnitudes.numel() - kept + 1).values)


def dare(base: State, members: Mapping[str, State], drop: float, seed: int) -> dict[str, dict[str, Tensor]]:
    """Thin each task vector: drop entries at random, scale the rest by 1 / (1 - drop), so that its expectation stays.

    A member's mask depends on the seed and its name alone, so that other members come and go without changing it.

    Args:
        base: the state dict that every member was fine-tuned from.
        members: state dict of each member by name.
        drop: share of entries dropped, in [0, 1).
        seed: of the masks.

    Returns:
        The thinned members by name: give them to ``task_arithmetic``, ``ties`` or ``uniform_soup``.

    Raises:
        RuleOptionError: drop lies outside.
        FusionError: the members cannot be mixed, see ``check_members``.
    """
    if not 0 <= drop < 1:
        raise RuleOptionError("dare", "drop", drop, "give a share in [0, 1)")
    check_members(members, base)
    return {name: _thin(base, member, drop, _generator(seed, name)) for name, member in members.items()}


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _thin(base: State, member: State, drop: float, generator: torch.Generator) -> dict[str, Tensor]:
    trainable = sorted(_trainable(base))
    keeps = {key: torch.rand(base[key].shape, generator=generator) >= drop for key in trainable}

    def mix(key: str, stacked: Tensor) -> Tensor:
        origin = base[key].double()
        return origin + (stacked[0] - origin) * keeps[key].to(origin.device) / (1 - drop)

    return combine({"member": member}, mix)
