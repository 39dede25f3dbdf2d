"""META-DES: whether a member is right on a row is itself learned, from how it did on rows and answers like these
(Cruz, Sabourin, Cavalcanti and Ren 2015, "META-DES: A dynamic ensemble selection framework using meta-learning").
"""

# M members, B batch, N rows, C classes, D input features, K neighbours, P alike answers, F = 2K + P + 2 meta-features

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quorate.fusion.base import Fused
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.learned.gate import Gate, Route, Standardised, check_inputs
from quorate.fusion.learned.nearest import distances, nearest
from quorate.fusion.training import examples

# What a member counts that is not selected: it is fused where nobody else is there.
_LEAST = 1e-6
# Meta-features become counts of 0 to 10, which is what a multinomial model reads.
_EDGES = torch.linspace(0.1, 1.0, 10, dtype=torch.float64)


class _Competence(Standardised):
    """Rows that members' answers are known of, and a naive Bayes model of who is right."""

    rows: Tensor
    right: Tensor
    truth: Tensor
    profiles: Tensor
    prior: Tensor
    likelihood: Tensor

    def __init__(self, sizes: tuple[int, int, int, int], neighbours: int, alike: int):
        """Args:
        sizes: M, N, C, D.
        """
        members, rows, classes, inputs = sizes
        super().__init__(inputs)
        self.neighbours, self.alike = min(neighbours, rows - 1), min(alike, rows - 1)
        self.register_buffer("rows", torch.zeros(rows, inputs))
        self.register_buffer("right", torch.zeros(members, rows, dtype=torch.bool))
        self.register_buffer("truth", torch.zeros(members, rows))
        self.register_buffer("profiles", torch.zeros(members, rows, classes))
        self.register_buffer("prior", torch.zeros(2, dtype=torch.float64))
        features = 2 * self.neighbours + self.alike + 2
        self.register_buffer("likelihood", torch.zeros(2, features, dtype=torch.float64))

    def near(self, inputs: Tensor, count: int) -> Tensor:
        """(B, count) numbers of the rows nearest to standardised inputs (B, D), the nearest first."""
        return nearest(distances(inputs, self.rows), count)

    def alike_to(self, outputs: Tensor, present: Tensor, count: int) -> Tensor:
        """(B, count) numbers of the rows that the members present answered most like this."""
        apart = torch.zeros(outputs.shape[1], len(self.rows))
        for member, profile in enumerate(self.profiles):
            apart += distances(outputs[member], profile).square() * present[member].unsqueeze(1)
        return nearest(apart, count)

    def features(self, near: Tensor, alike: Tensor, outputs: Tensor) -> Tensor:
        """(M, B, F) counts: right on each neighbour, sure of its class there, share of neighbours right, right where
        answers were alike, and how sure it is now.
        """
        right = self.right.float()
        found = [right[:, near], self.truth[:, near], right[:, near].mean(dim=2, keepdim=True), right[:, alike]]
        features = torch.cat([*found, outputs.amax(dim=2, keepdim=True)], dim=2).double()
        return torch.bucketize(features, _EDGES, right=True).double()

    def learn(self, features: Tensor, right: Tensor) -> None:
        """Multinomial naive Bayes, each count one more: of who is right (M, N) from features (M, N, F)."""
        for kind, rows in enumerate((~right, right)):
            counts = (features * rows.unsqueeze(-1)).sum(dim=(0, 1)) + 1.0
            self.likelihood[kind] = (counts / counts.sum()).log()
            self.prior[kind] = (rows.sum().double() / rows.numel()).clamp(min=1e-12).log()

    def forward(self, inputs: Tensor, outputs: Tensor, present: Tensor) -> Tensor:
        """(M, B) how likely each member is right."""
        near = self.near(self.standard(inputs), self.neighbours)
        alike = self.alike_to(outputs, present, self.alike)
        return (self.features(near, alike, outputs) @ self.likelihood.T + self.prior).softmax(dim=-1)[..., 1]


class MetaDes(Gate):
    """The mean of the members that are more likely right than not, or of all where none is. Make one with
    ``fit_meta_des``.

    Everybody is asked: who is competent follows from what all say. Answers are compared by the members that are there.
    """

    name = "meta_des"
    per_member = ("right", "truth", "profiles")
    network: _Competence

    def __init__(
        self, members: Sequence[str], network: nn.Module, input_name: str, neighbours: int = 7, alike: int = 5
    ):
        super().__init__(members, network, len(members), input_name)
        self.options = {"input_name": input_name, "neighbours": neighbours, "alike": alike}

    @classmethod
    def _network(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:
        neighbours, alike = options.get("neighbours", 7), options.get("alike", 5)
        check_counts(neighbours, alike)
        sizes = (*tensors["profiles"].shape, tensors["rows"].shape[1])
        return _Competence(sizes, neighbours, alike)

    @classmethod
    def _read_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        if "input_name" not in options:
            raise RuleOptionError(cls.name, "input_name", None, "give it: there is no default")
        return dict(options)

    def route(self, inputs: Tensor) -> Route:
        """Everybody alike: whom to ask."""
        self.check_width(inputs)
        return Route(torch.zeros(self.num_members, len(inputs)), self.members, self.top_k)

    def competence(self, inputs: Tensor, outputs: Tensor, present: Tensor | None = None) -> Tensor:
        """(M, B) how likely each member is right.

        Args:
            inputs: (B, D).
            outputs: (M, B, C) probabilities.
            present: (M, B) bool; None when every member answered.
        """
        self.check_width(inputs)
        there = torch.isfinite(outputs).all(dim=-1)
        there = there if present is None else there & present
        clean = torch.where(there.unsqueeze(-1), outputs, 0.0).float()
        found: Tensor = self.network(inputs, clean[self._order], there[self._order])
        return found[self._back]

    def fuse(self, outputs: Tensor, present: Tensor | None = None, inputs: Tensor | None = None) -> Fused:
        if inputs is None:
            return super().fuse(outputs, present)
        competent = self.competence(inputs, outputs, present) > 0.5
        scores = torch.where(competent, 1.0, _LEAST).log()
        return Route(scores, self.members, self.top_k).fuse(outputs, present)


def check_counts(neighbours: Any, alike: Any) -> None:
    for option, value in (("neighbours", neighbours), ("alike", alike)):
        if type(value) is not int or value < 1:
            raise RuleOptionError(MetaDes.name, option, value, "give a whole number of 1 or more")


def fit_meta_des(
    members: Sequence[str],
    inputs: Tensor,
    outputs: Tensor,
    labels: Tensor,
    present: Tensor | None = None,
    *,
    input_name: str,
    neighbours: int = 7,
    alike: int = 5,
) -> MetaDes:
    """Learn who is right from rows that the members were not trained on, each looked up among the others.

    Args:
        members: names, in the order of the outputs.
        inputs: (N, D), standardised inside by their mean and deviation; distances are Euclidean.
        outputs: (M, N, C) probabilities.
        labels: (N,) integers in [0, C).
        present: (M, N) bool; None when every member answered. Who gave no row is not right on it.
        input_name: the request input that the rows are.
        neighbours: K.
        alike: P, rows whose answers are most like those to the row.

    Raises:
        FusionError: arguments do not fit together.
        QuorumError: no row has a member.
    """
    check_counts(neighbours, alike)
    check_inputs(inputs, labels)
    data = examples(members, outputs, labels, present)
    if len(data.labels) < 2:
        raise RuleOptionError(MetaDes.name, "labels", f"{len(data.labels)} rows", "give hundreds")
    kept, rows = inputs[data.kept].float(), torch.arange(len(data.labels))
    sizes = (*data.outputs.shape, kept.shape[1])
    network = _Competence(sizes, neighbours, alike)
    network.fit(kept)
    network.rows.copy_(network.standard(kept))
    network.profiles.copy_(data.outputs)
    network.truth.copy_(data.outputs[:, rows, data.labels])
    network.right.copy_((data.outputs.argmax(dim=2) == data.labels) & data.present)
    # A row is no neighbour of itself: the nearest is left out.
    near = network.near(network.rows, network.neighbours + 1)[:, 1:]
    alike_to = network.alike_to(data.outputs, data.present, network.alike + 1)[:, 1:]
    network.learn(network.features(near, alike_to, data.outputs), network.right)
    return MetaDes(members, network, input_name, neighbours, alike)
