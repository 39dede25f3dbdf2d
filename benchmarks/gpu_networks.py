"""Networks of real size with random weights, of nothing but torch: the shapes of ResNet-50, ViT-B/16 and BERT-base."""

# B rows, T tokens

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10


class Bottleneck(nn.Module):
    """He et al. 2016, figure 5, with the stride in the 3x3 as torchvision has it."""

    def __init__(self, inner: int, width: int, stride: int):
        super().__init__()
        outer = 4 * width
        self.convolutions = nn.Sequential(
            nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, outer, 1, bias=False), nn.BatchNorm2d(outer),
        )  # fmt: skip
        same = inner == outer and stride == 1
        around = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        self.around = nn.Identity() if same else around

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.convolutions(x) + self.around(x))


def resnet(depths: tuple[int, ...] = (3, 4, 6, 3), width: int = 64) -> nn.Module:
    """(B, 3, S, S) to (B, CLASSES); 23.5 million parameters as it stands."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
    ]  # fmt: skip
    inner = width
    for stage, depth in enumerate(depths):
        for place in range(depth):
            layers.append(Bottleneck(inner, width << stage, 2 if stage and not place else 1))
            inner = 4 * (width << stage)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inner, CLASSES))


class Block(nn.Module):
    """A layer of a transformer, normalised first."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.reads, self.gives = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        rows, tokens, width = x.shape
        parts = self.reads(self.before(x)).view(rows, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.gives(attended.transpose(1, 2).reshape(rows, tokens, width))
        return x + self.inner(self.between(x))


class Transformer(nn.Module):
    """What reads tokens, (B, T, width), and classifies their mean."""

    def __init__(self, embed: nn.Module, width: int, depth: int, heads: int, tokens: int):
        super().__init__()
        self.embed = embed
        self.places = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(x) + self.places).mean(1))


class Patches(nn.Module):
    def __init__(self, width: int, size: int):
        super().__init__()
        self.convolution = nn.Conv2d(3, width, size, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x).flatten(2).transpose(1, 2)


def vit(side: int = 224, patch: int = 16, width: int = 768, depth: int = 12, heads: int = 12) -> nn.Module:
    """(B, 3, side, side) to (B, CLASSES); 86 million parameters as it stands."""
    return Transformer(Patches(width, patch), width, depth, heads, (side // patch) ** 2)


def bert(vocabulary: int = 30522, tokens: int = 128, width: int = 768, depth: int = 12, heads: int = 12) -> nn.Module:
    """(B, tokens) int64 to (B, CLASSES); 109 million parameters as it stands."""
    return Transformer(nn.Embedding(vocabulary, width), width, depth, heads, tokens)


def perceptron(inner: int = 64, width: int = 128) -> nn.Module:
    """(B, inner) to (B, CLASSES)."""
    return nn.Sequential(nn.Linear(inner, width), nn.ReLU(), nn.Linear(width, CLASSES))


def build(kind: str, seed: int, **sizes: int) -> nn.Module:
    """A member: one of these, its weights drawn from a seed."""
    torch.manual_seed(seed)
    return {"resnet": resnet, "vit": vit, "bert": bert, "perceptron": perceptron}[kind](**sizes).eval()  # type: ignore[operator]
