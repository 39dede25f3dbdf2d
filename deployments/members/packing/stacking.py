"""Networks of one architecture as one: their parameters stacked, one batched forward pass for all (``torch.func``)."""

# K networks, B rows

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from quorate.deployments.members.packing.architecture import state_of

# Of a network: tensors (B, ...) in, one tensor (B, ...) out.
Call = Callable[..., Tensor]


class StackError(ValueError):
    """These networks do not run as one; the text says why."""


class Stack:
    """The forward pass of K networks at once.

    What all have alike, such as a frozen network under their heads, is neither stacked nor computed K times. The
    networks' own parameters become views of the stacked ones, so that nothing is held twice.
    """

    def __init__(self, networks: Sequence[nn.Module], call: Call):
        """
        Args:
            networks: of one architecture, in evaluation mode, not two of them the same.
            call: runs the first of them.

        Raises:
            StackError: vmap cannot run what they are made of; they are left as they were.
        """
        recurrent = next((part for part in networks[0].modules() if isinstance(part, nn.RNNBase)), None)
        if recurrent is not None:  # on a GPU its parameters have to lie in one piece, too
            raise StackError(f"vmap cannot run its {type(recurrent).__name__}")
        states = [state_of(network) for network in networks]
        self._skeleton = _Called(networks[0], call)
        with torch.inference_mode(False), torch.no_grad():  # they outlive any one call
            self._stacked = {
                f"network.{name}": _stacked([state[name] for state in states])
                for name in states[0]
                if not _alike([state[name] for state in states])
            }
        self._run = vmap(self._one, in_dims=(0, None))

    def __call__(self, tensors: Sequence[Tensor]) -> Tensor:
        """(K, B, ...) for rows that all networks read, (B, ...) each.

        Raises:
            Exception: whatever the networks raise, and vmap of what it cannot do.
        """
        found: Tensor = self._run(self._stacked, tuple(tensors))
        return found

    def try_out(self, tensors: Sequence[Tensor]) -> Tensor:
        """The same, once, to see whether these networks can be run so.

        Raises:
            StackError: vmap cannot run them, or only one after another.
        """
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                found = self(tensors)
            except Exception as error:  # a network's own code runs
                raise StackError(f"vmap cannot run it ({_first_line(error)})") from error
        slow = next((str(one.message) for one in said if "batching rule for" in str(one.message)), "")
        if slow:
            raise StackError(f"vmap has no batched form of {slow.split('batching rule for ')[1].split('. ')[0]}")
        return found

    def _one(self, state: dict[str, Tensor], tensors: tuple[Tensor, ...]) -> Tensor:
        found: Tensor = functional_call(self._skeleton, state, tensors)
        return found


class _Called(nn.Module):
    """A network and how it is called, as a module whose parameters can be replaced for a call."""

    def __init__(self, network: nn.Module, call: Call):
        super().__init__()
        self.network, self._call = network, call
        self.eval()

    def forward(self, *tensors: Tensor) -> Tensor:
        return self._call(*tensors)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:160]


def _alike(tensors: Sequence[Tensor]) -> bool:
    return all(t.data_ptr() == tensors[0].data_ptr() or torch.equal(t, tensors[0]) for t in tensors[1:])


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """(K, ...) whose parts the tensors become."""
    stacked = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, part in zip(tensors, stacked, strict=True):
        tensor.data = part
    return stacked
