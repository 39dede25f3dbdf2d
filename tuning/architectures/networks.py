"""Networks for small images and for tables, built from a spec's ``config``: CNN, RNN, Transformer, MLP, table.

Entry point: ``build(family="cnn", image=[1, 28, 28], classes=10, ...)``; in a spec
``model: quorate.tuning.architectures:build`` with the arguments as ``config``.
Each network takes (B, channels, height, width) float32 and returns logits (B, classes); mlp and table take (B, F),
too, or several inputs that make F.
"""

# B batch, C classes, L steps or patches, D width

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from quorate.tuning.architectures.flat_rows import side_by_side
from quorate.tuning.architectures.precision import in_format
from quorate.tuning.architectures.table_network import TableNet
from quorate.tuning.errors import ArchitectureError


class ConvNet(nn.Module):
    """``depth`` stages of two 3x3 convolutions with batch norm; each later one halves the image, doubles the width."""

    def __init__(
        self, image: tuple[int, int, int], classes: int, width: int = 32, depth: int = 2, dropout: float = 0.1
    ):
        super().__init__()
        channels, height, wide = image
        if min(height, wide) < 2 ** (depth - 1):
            fix = f"depth {depth} halves the image {depth - 1} times; give a smaller depth or a larger image"
            raise ArchitectureError("config.depth of a cnn", f"the image is {height}x{wide}", fix)
        layers: list[nn.Module] = []
        for stage in range(depth):
            if stage:
                layers.append(nn.MaxPool2d(2))
            out = width * 2**stage
            for _ in range(2):
                layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
                channels = out
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, classes))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(image).mean(dim=(2, 3)))
        return logits


class RecurrentNet(nn.Module):
    """Reads the image row by row in both directions; the head reads the states of all rows side by side."""

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        width: int = 64,
        depth: int = 1,
        cell: str = "gru",
        dropout: float = 0.1,
    ):
        super().__init__()
        cells: dict[str, Any] = {"gru": nn.GRU, "lstm": nn.LSTM}
        if cell not in cells:
            raise ArchitectureError("config.cell of an rnn", f"{cell!r} is unknown", "give gru or lstm")
        channels, height, wide = image
        between = dropout if depth > 1 else 0.0  # torch warns about dropout between layers that are not there
        self.rows = cells[cell](
            channels * wide, width, num_layers=depth, batch_first=True, bidirectional=True, dropout=between
        )
        self.head = nn.Sequential(
            nn.LayerNorm(2 * width), nn.Flatten(), nn.Dropout(dropout), nn.Linear(height * 2 * width, classes)
        )

    def forward(self, image: Tensor) -> Tensor:
        steps = image.permute(0, 2, 1, 3).flatten(2)  # (B, height, channels * width)
        states, _ = self.rows(steps)
        logits: Tensor = self.head(states)
        return logits


class Transformer(nn.Module):
    """A small vision transformer (Dosovitskiy et al. 2021): patches, learned positions, pre-norm blocks.

    The head reads all patches side by side: on 8x8 digits that halves the log-loss that mean pooling reaches.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        patch: int = 4,
        dropout: float = 0.1,
    ):
        super().__init__()
        channels, height, wide = image
        if width % heads:
            raise ArchitectureError(
                "config.heads of a transformer", f"{heads} does not divide width {width}", "change one"
            )
        if height % patch or wide % patch:
            found = f"{patch} does not divide the image {height}x{wide}"
            raise ArchitectureError("config.patch of a transformer", found, "give a divisor of both sides")
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        length = (height // patch) * (wide // patch)
        self.positions = nn.Parameter(torch.randn(1, length, width) * 0.02)
        self.blocks = nn.ModuleList(AttentionBlock(width, heads, dropout) for _ in range(depth))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Flatten(), nn.Linear(length * width, classes))

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patches(image).flatten(2).transpose(1, 2) + self.positions  # (B, L, D)
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(tokens)
        return logits


class AttentionBlock(nn.Module):
    """Pre-norm self-attention and a feed-forward of four times the width."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, length, width = tokens.shape
        qkv = self.qkv(self.norm(tokens)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.dropout(self.out(mixed.transpose(1, 2).reshape(batch, length, width)))
        mixed_in: Tensor = tokens + self.dropout(self.feed_forward(tokens))
        return mixed_in


class Perceptron(nn.Module):
    """``depth`` hidden layers over all it reads, flat and side by side."""

    def __init__(
        self, image: tuple[int, int, int], classes: int, width: int = 128, depth: int = 2, dropout: float = 0.1
    ):
        super().__init__()
        sizes = [image[0] * image[1] * image[2], *[width] * depth]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.net = nn.Sequential(*layers, nn.Linear(sizes[-1], classes))

    def forward(self, *read: Tensor) -> Tensor:
        logits: Tensor = self.net(side_by_side(read))
        return logits


FAMILIES: dict[str, type[nn.Module]] = {
    "cnn": ConvNet,
    "rnn": RecurrentNet,
    "transformer": Transformer,
    "mlp": Perceptron,
    "table": TableNet,
}


def build(family: str = "cnn", image: Sequence[int] = (1, 28, 28), classes: int = 10, **config: Any) -> nn.Module:
    """Build an untrained network from a spec's config.

    Args:
        family: cnn, rnn, transformer, mlp or table.
        image: (channels, height, width) of one input; (1, 1, F) of flat rows.
        classes: number of logits.
        config: ``width``, ``depth``, ``dropout`` of every family; ``cell`` of an rnn; ``heads``, ``patch`` of a
            transformer; ``bins`` of a table; ``format``, fp32, bf16 or int8 (see ``precision``), of any network that is
            only run.

    Returns:
        A module from (B, *image) float32 to logits (B, classes), initialised from torch's global generator.

    Raises:
        ArchitectureError: an unknown family or option, or a value no network can have.
    """
    if family not in FAMILIES:
        raise ArchitectureError("config.family", f"{family!r} is unknown", f"give one of {', '.join(FAMILIES)}")
    numbers = config.pop("format", "fp32")
    network = FAMILIES[family]
    options = list(inspect.signature(network).parameters)[2:]
    for name, value in config.items():
        if name not in options:
            raise ArchitectureError(f"config.{name}", f"a {family} has no such option", f"it has {', '.join(options)}")
        _check_option(name, value)
    _check_option("classes", classes)
    if len(image) != 3:
        raise ArchitectureError("config.image", f"{list(image)}", "give [channels, height, width]")
    for size in image:
        _check_option("image", size)
    return in_format(network((image[0], image[1], image[2]), classes, **config), numbers)


def _check_option(name: str, value: object) -> None:
    if name == "cell":
        return
    if name == "dropout":
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
            raise ArchitectureError("config.dropout", f"{value!r}", "give a number from 0 to below 1")
    elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArchitectureError(f"config.{name}", f"{value!r}", "give whole numbers of at least 1")
