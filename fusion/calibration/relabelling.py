"""Classes that are called otherwise than members call them: what they say of one is answered as another.

With a matrix T whose column c says what is called so now, the answer is T p: probabilities of labels whose classes go
over into others, or are merged (Patrini, Rozza, Menon, Nock and Qu 2017, "Making Deep Neural Networks Robust to Label
Noise", section 3: the forward correction reads a model's classes as labels so). Most columns are the identity.
"""

# B rows, C classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from quorate.fusion.base import Fused


@dataclass(frozen=True)
class Relabelling:
    """Columns of T that are not the identity.

    Attributes:
        moves: of a class by number, what it is answered as: numbers with their shares, which have the sum 1.
    """

    moves: tuple[tuple[int, tuple[tuple[int, float], ...]], ...]

    @classmethod
    def from_spec(cls, relabel: Mapping[str, Mapping[str, float]], classes: Sequence[str]) -> Relabelling:
        """What a spec says by name, whatever its order."""
        number = {name: at for at, name in enumerate(classes)}
        columns = {
            number[old]: sorted((number[new], share) for new, share in to.items()) for old, to in relabel.items()
        }
        return cls(tuple((old, tuple(columns[old])) for old in sorted(columns)))

    def apply(self, probabilities: Tensor) -> Tensor:
        """(..., C) to the same; each row by itself, to the bit."""
        found = probabilities.clone()
        for old, _ in self.moves:
            found[..., old] = 0.0
        for old, to in self.moves:
            for new, share in to:
                found[..., new] += share * probabilities[..., old]
        return found

    def apply_fused(self, fused: Fused) -> Fused:
        """The same of fused rows; a row that abstained stays zero."""
        return Fused(self.apply(fused.values), fused.contributions, fused.coverage, fused.abstained)
