"""A network for the rows of a table: numbers of any scale and codes of categories, prepared by nothing outside it."""

# B batch, N rows, F features, T bins, D width

from __future__ import annotations

import torch
from torch import Tensor, nn

from quorate.tuning.architectures.flat_rows import side_by_side


class TableNet(nn.Module):
    """A residual perceptron (Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular Data", section 3.2).

    Each feature is read as how far it has come through each of ``bins`` bins between its quantiles (Gorishniy et al.
    2022, "On Embeddings for Numerical Features in Tabular Deep Learning", section 3.2). A feature with no more distinct
    values than bins has an edge at each of them, which says as much as one-hot codes: categories may come as any
    numbers. NaN is a value of its own.
    """

    edges: Tensor

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        width: int = 128,
        depth: int = 2,
        dropout: float = 0.1,
        bins: int = 24,
    ):
        super().__init__()
        features = image[0] * image[1] * image[2]
        self.register_buffer("edges", torch.linspace(0, 1, bins + 1).repeat(features, 1))
        self.first = nn.Linear(features * (bins + 1), width)
        self.blocks = nn.ModuleList(_Block(width, dropout) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def fit_inputs(self, rows: Tensor) -> None:
        """Take the edges of the bins from (N, ...) training rows."""
        flat = rows.flatten(1)
        self.edges.copy_(torch.stack([_edges(column, self.edges.shape[1]) for column in flat.T]))

    def forward(self, *read: Tensor) -> Tensor:
        value = side_by_side(read)[..., None]  # (B, F, 1)
        low, high = self.edges[:, :-1], self.edges[:, 1:]
        wide = high > low
        through = torch.where(wide, (value - low) / torch.where(wide, high - low, 1.0), 0.0)
        missing = value.isnan()
        through = torch.where(missing, 0.0, through.clamp(0.0, 1.0))
        state = self.first(torch.cat([through, missing.to(through.dtype)], dim=2).flatten(1))
        for block in self.blocks:
            state = block(state)
        logits: Tensor = self.head(self.norm(state).relu())
        return logits


class _Block(nn.Module):
    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.change = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(2 * width, width), nn.Dropout(dropout),
        )  # fmt: skip

    def forward(self, state: Tensor) -> Tensor:
        changed: Tensor = state + self.change(state)
        return changed


def _edges(column: Tensor, count: int) -> Tensor:
    """(count,) ascending; the last one again where there are fewer."""
    finite = column[column.isfinite()]
    if not len(finite):
        return torch.zeros(count, device=column.device)
    found: Tensor = finite.unique()  # type: ignore[no-untyped-call]
    if len(found) > count:
        # torch.quantile takes no more than 16 million numbers.
        places = torch.linspace(0, len(finite) - 1, count, device=column.device).round().long()
        found = finite.sort().values[places].unique()  # type: ignore[no-untyped-call]
    return torch.cat([found, found[-1].repeat(count - len(found))])
