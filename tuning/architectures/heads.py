"""Members that read other members: heads over what those say, and trunks that give features instead of logits.

In a spec ``model: quorate.tuning.architectures:head`` with ``inputs: [image, cnn]`` is the second link of a chain, and
several such heads over one ``model: quorate.tuning.architectures:trunk`` share what is expensive to compute.
"""

# F features

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from quorate.tuning.architectures.networks import Perceptron, build


def head(features: int, classes: int, width: int = 64, depth: int = 1, dropout: float = 0.1) -> nn.Module:
    """Build an untrained head.

    Args:
        features: F, numbers of a row of all its inputs together.
        classes: number of logits.
        width, depth, dropout: of the perceptron.
    """
    return Perceptron((1, 1, features), classes, width, depth, dropout)


def trunk(**config: Any) -> nn.Module:
    """A network of ``architectures.build`` without its last layer: its output is what that layer would read."""
    network = build(**config)
    name = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())
    return network


def trunk_state(network: nn.Module) -> dict[str, Tensor]:
    """The weights a trunk takes over from the whole network."""
    *_, last = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    return {name: value for name, value in network.state_dict().items() if not name.startswith(f"{last}.")}
