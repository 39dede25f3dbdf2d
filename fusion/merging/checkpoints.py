"""State dicts that may be mixed: one architecture, and one start that every member was trained from.

Averaging networks that were initialised apart averages neurons that mean different things: on scikit-learn's digits two
64-64-64-10 MLPs of 89 % accuracy gave a soup of 34 %, two fine-tuned from one start kept their 91 % (Neyshabur et al.
2020, "What is being transferred in transfer learning?", says why). Nothing in a state dict tells where it started, but
its direction does: weight matrices of those two apart had cosines of -0.08 to 0.06, of two trained from one random
start 0.93 to 0.98, of two fine-tuned 0.99.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from quorate.fusion.errors import ArchitectureMismatchError, NonFiniteStateError, RuleOptionError, UnrelatedMembersError

State = Mapping[str, Tensor]

MIN_COSINE = 0.25
# Below this size chance alone gives cosines above 4 / sqrt(64) = 0.5: a small tensor tells nothing.
MIN_ENTRIES = 64


def check_members(members: Mapping[str, State], base: State | None = None) -> None:
    """Refuse members whose parameters cannot be mixed.

    Args:
        members: state dict of each member by name.
        base: the state dict they were all trained from, where it is known.

    Raises:
        RuleOptionError: there is no member.
        ArchitectureMismatchError: a tensor is missing, or has another shape or dtype.
        NonFiniteStateError: a tensor holds NaN or infinity.
        UnrelatedMembersError: a weight matrix of 64 entries or more points elsewhere than the reference's (the base,
            or the first member by name): its cosine is below 0.25, or no more than chance would give.
    """
    if not members:
        raise RuleOptionError("merge", "members", [], "give at least one state dict")
    names = sorted(members)
    reference = members[names[0]] if base is None else base
    reference_name = names[0] if base is None else "the base"
    for name in names:
        _check_architecture(name, members[name], reference_name, reference)
        _check_finite(name, members[name])
    _check_finite(reference_name, reference)
    for name in names:
        _check_start(name, members[name], reference_name, reference)


def _check_architecture(name: str, state: State, reference_name: str, reference: State) -> None:
    for key in sorted(state.keys() | reference.keys()):
        found, expected = _describe(state, key), _describe(reference, key)
        if found != expected:
            raise ArchitectureMismatchError(name, key, found, reference_name, expected)


def _describe(state: State, key: str) -> str:
    if key not in state:
        return "no tensor"
    return f"{str(state[key].dtype).removeprefix('torch.')}{list(state[key].shape)}"


def _check_finite(name: str, state: State) -> None:
    for key, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise NonFiniteStateError(name, key)


def _check_start(name: str, state: State, reference_name: str, reference: State) -> None:
    for key, tensor in state.items():
        # Vectors (norms, biases) start at the same constants everywhere; only matrices carry a random start.
        if not tensor.is_floating_point() or tensor.dim() < 2 or tensor.numel() < MIN_ENTRIES:
            continue
        a, b = tensor.double().flatten(), reference[key].double().flatten()
        norms = a.norm() * b.norm()
        if norms == 0:  # a tensor that started at zero has no direction yet
            continue
        cosine = float(a @ b / norms)
        needed = max(MIN_COSINE, 4 / math.sqrt(tensor.numel()))
        if cosine < needed:
            raise UnrelatedMembersError(name, reference_name, key, cosine, needed)


def is_statistic(key: str) -> bool:
    """Running statistics of a norm layer are measured, not trained: a mix of weights needs new ones."""
    return key.rpartition(".")[2] in ("running_mean", "running_var")


def combine(members: Mapping[str, State], mix: Callable[[str, Tensor], Tensor]) -> dict[str, Tensor]:
    """Mix checked members tensor by tensor.

    Running statistics are averaged whatever ``mix`` does, because they can be neither extrapolated (a variance would
    turn negative) nor trimmed; ``reestimate_batchnorm`` replaces them. Integer tensors must agree, batch
    counters excepted.

    Args:
        members: state dict of each member by name.
        mix: key and (M, ...) float64, members in the order of their names, to (...).

    Returns:
        One state dict with the members' dtypes.
    """
    names = sorted(members)
    mixed = {}
    for key, first in members[names[0]].items():
        tensors = [members[name][key] for name in names]
        if first.is_floating_point():
            stacked = torch.stack([tensor.detach().double() for tensor in tensors])
            mixed[key] = (stacked.mean(dim=0) if is_statistic(key) else mix(key, stacked)).to(first.dtype)
        else:
            mixed[key] = _agreed(names, key, tensors)
    return mixed


def _agreed(names: list[str], key: str, tensors: list[Tensor]) -> Tensor:
    if key.rpartition(".")[2] == "num_batches_tracked":
        return torch.stack(tensors).amax(dim=0)
    for name, tensor in zip(names, tensors, strict=True):
        if not torch.equal(tensor, tensors[0]):
            raise ArchitectureMismatchError(name, key, "other integers", names[0], "its own")
    return tensors[0].clone()
