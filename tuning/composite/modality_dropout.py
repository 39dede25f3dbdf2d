"""Modalities left out of training rows, so that an answer without one of them is something the network has seen.

Neverova et al. 2016, "ModDrop: Adaptive Multi-modal Gesture Recognition", section 3.4.
"""

# B batch, G modalities

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.fusion.training import drop_members
from quorate.tuning.composite.trained_part import TrainedPart


def modalities(spec: EnsembleSpec, part: TrainedPart) -> dict[str, int]:
    """Which modality each of the graph's first nodes is: members that read nothing but the request.

    Members that read the same request inputs are one; where all read the same, each is one by itself.
    """
    first = [n for n in (*part.outside, *part.inside) if n in spec.members and _reads_request(spec, n)]
    by_inputs = {frozenset(spec.members[name].inputs) for name in first}
    if len(by_inputs) == 1:
        return {name: number for number, name in enumerate(first)}
    numbers = {inputs: number for number, inputs in enumerate(sorted(by_inputs, key=sorted))}
    return {name: numbers[frozenset(spec.members[name].inputs)] for name in first}


def left_out(groups: Mapping[str, int], rows: int, rate: float, device: str) -> dict[str, Tensor]:
    """(B,) bool by first node, whether it is there; every row keeps a modality. Drawn from PyTorch's random state."""
    everybody = torch.ones(max(groups.values()) + 1, rows, dtype=torch.bool)
    kept = drop_members(everybody, rate, torch.default_generator).to(device)
    return {name: kept[number] for name, number in groups.items()}


def _reads_request(spec: EnsembleSpec, name: str) -> bool:
    return set(spec.members[name].inputs) <= set(spec.inputs)
