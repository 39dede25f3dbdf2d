"""A network of timm or torchvision that reads pictures as they come."""

# B rows, H height, W width, C channels

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from quorate.deployments.sources.content.pictures import is_ready, mode_of, pictures
from quorate.deployments.sources.request import LoadRequest


class PictureNetwork:
    """A network behind the transform of its pictures.

    Args:
        transform: makes a (C, H, W) tensor of one of Pillow's images.
        channels: that the network reads.
    """

    def __init__(self, network: nn.Module, transform: Callable[[Any], torch.Tensor], channels: int):
        self._network, self._transform, self._mode = network, transform, mode_of(channels)
        self._parameter = next(network.parameters())

    def __call__(self, array: NDArray[Any]) -> Any:
        """What the network gives.

        Args:
            array: (B,) BYTES, encoded; (B, H, W, C) UINT8; or (B, C, H, W) floats, given to the network as they are.

        Raises:
            BadRowsError: naming the rows that cannot be decoded.
        """
        if is_ready(array):
            rows = torch.from_numpy(array.copy())
        else:
            rows = torch.stack([self._transform(picture) for picture in pictures(array, self._mode)])
        return self._network(rows.to(self._parameter.device, self._parameter.dtype))


def check_config(request: LoadRequest, fetching: Collection[str]) -> dict[str, Any]:
    """The settings of a network, without those that would fetch or unpickle weights.

    Raises:
        MemberLoadError: there is one of those.
    """
    config = dict(request.spec.config)
    for key in fetching:
        if config.pop(key, None):
            raise request.error(f"config asks for {key}", f"remove it: {request.spec.weights} are the member's weights")
    return config


def built(
    request: LoadRequest, known: Collection[str], make: Callable[..., nn.Module], config: Mapping[str, Any]
) -> nn.Module:
    """The network of the name behind the scheme.

    Args:
        known: all names.
        make: called with the name and the settings.

    Raises:
        MemberLoadError: there is no such network, or it does not take these settings.
    """
    scheme, _, name = request.spec.model.partition(":")
    if name.partition(".")[0] not in known:
        close = get_close_matches(name, known, n=3)
        raise request.error(
            f"{scheme} has no {name}", f"did you mean {' or '.join(close)}?" if close else "check the name"
        )
    try:
        return make(name, **config)
    except Exception as error:
        raise request.error(f"{name} failed with {type(error).__name__}: {error}", "check its config") from error
