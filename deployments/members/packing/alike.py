"""Which members of a process are of one architecture and read the same, so that they run as one."""

from __future__ import annotations

from collections.abc import Sequence

from quorate.deployments.members.packing.architecture import difference, why_not_stackable
from quorate.deployments.members.packing.cuda_graphs import CudaStream, Stream
from quorate.deployments.members.packing.shared_tensors import share_tensors
from quorate.deployments.members.packing.stacked_members import StackedMembers, network_of
from quorate.deployments.members.packing.stacking import StackError
from quorate.deployments.members.predictor import Predictor


def stack_members(members: Sequence[Predictor]) -> tuple[list[StackedMembers], dict[int, str]]:
    """Those of a process's members that run as one, and of each other why it does not, by its place.

    Parameters that several have alike are held once from then on, whether they run as one or not.
    """
    share_tensors([network for member in members if (network := member.model.network) is not None])
    found: list[StackedMembers] = []
    why: dict[int, str] = {}
    for alike in _alike(members, why):
        try:
            found.append(StackedMembers({place: members[place] for place in alike}, _stream(members[alike[0]])))
        except StackError as error:
            why.update(dict.fromkeys(alike, str(error)))
    return found, why


def _stream(member: Predictor) -> Stream | None:
    """A stream of its own on a GPU."""
    device = member.model.device
    return CudaStream(device) if device.type == "cuda" else None


def _alike(members: Sequence[Predictor], why: dict[int, str]) -> list[list[int]]:
    """Places of members by architecture, two at least of each; of others ``why`` is told."""
    kinds: list[list[int]] = []
    for place, member in enumerate(members):
        reason = _why_alone(member)
        if reason:
            why[place] = reason
            continue
        same = next((kind for kind in kinds if not _differ(members[kind[0]], member)), None)
        if same is None:
            kinds.append([place])
        else:
            same.append(place)
    why.update({kind[0]: "no other is of its architecture and reads the same" for kind in kinds if len(kind) == 1})
    return [kind for kind in kinds if len(kind) > 1]


def _why_alone(member: Predictor) -> str:
    if member.spec.stack is False:
        return "stack: false"
    reason = why_not_stackable(member.model.network)
    if reason:
        return reason
    rows = member.example(rows=2)
    if rows is None:
        return "it reads what other members give"
    return "it reads bytes" if any(array.dtype == object for array in member.model.arrays(rows)) else ""


def _differ(one: Predictor, other: Predictor) -> bool:
    """Whether two are of different architectures, or do not read the same, or not in the same way."""
    told = ("inputs", "input_names", "preprocess", "output", "output_name", "stack")
    if any(getattr(one.spec, name) != getattr(other.spec, name) for name in told):
        return True
    return bool(difference(network_of(one.model), network_of(other.model)))
