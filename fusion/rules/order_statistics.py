"""Maximum, minimum, median and trimmed mean, class by class (Kittler et al. 1998, "On Combining Classifiers")."""

# M members, B batch, C classes

from __future__ import annotations

import torch
from torch import Tensor

from quorate.fusion.errors import RuleOptionError
from quorate.fusion.numerics.sorting import ranked
from quorate.fusion.rules.weighting import WeightedRule, normalise, pool


class Maximum(WeightedRule):
    """The most that any member gives each class, normalised."""

    name = "maximum"

    def __init__(self, num_members: int):
        super().__init__(num_members)

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        filled = outputs if present is None else torch.where(present.unsqueeze(-1), outputs, -torch.inf)
        return normalise(filled.amax(dim=0), outputs, shares)


class Minimum(WeightedRule):
    """The least that any member gives each class, normalised; the members' mean where that is 0 for every class."""

    name = "minimum"

    def __init__(self, num_members: int):
        super().__init__(num_members)

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        filled = outputs if present is None else torch.where(present.unsqueeze(-1), outputs, torch.inf)
        return normalise(filled.amin(dim=0), outputs, shares)


class Median(WeightedRule):
    """The median of what the members give each class, normalised; the members' mean where that is 0 for every class."""

    name = "median"

    def __init__(self, num_members: int):
        super().__init__(num_members)

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        return normalise(median(outputs, present), outputs, shares)


class TrimmedMean(WeightedRule):
    """The mean without the lowest and the highest share of what the members give each class, normalised."""

    name = "trimmed_mean"

    def __init__(self, num_members: int, proportion: float = 0.1):
        """Args:
            num_members: M.
            proportion: left out at each end, rounded down to whole members of those that answered (as
                ``scipy.stats.trim_mean`` does), from 0 to below 0.5.

        Raises:
            RuleOptionError: proportion is out of range.
        """
        super().__init__(num_members)
        if not isinstance(proportion, (int, float)) or not 0 <= proportion < 0.5:
            raise RuleOptionError(self.name, "proportion", proportion, "give a share from 0 to below 0.5")
        self.proportion = float(proportion)
        self.options = {"proportion": self.proportion}

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        lines, count = ranked_members(outputs, present)
        if present is None:
            cut_all = int(self.num_members * self.proportion)
            middle = lines[cut_all : self.num_members - cut_all]
            return normalise(pool(middle, torch.full_like(shares[: len(middle)], 1 / len(middle))), outputs, shares)
        cut = (count.double() * self.proportion).floor().long()  # (B,)
        rank = torch.arange(self.num_members, device=outputs.device).unsqueeze(1)
        kept = (rank >= cut) & (rank < count - cut)  # (M, B)
        middle = torch.where(kept.unsqueeze(-1), lines, 0.0)
        return normalise(pool(middle, kept * (1 / kept.sum(dim=0).double())), outputs, shares)


def median(outputs: Tensor, present: Tensor | None) -> Tensor:
    """(B, C) the middle one of the present members, the mean of the middle two where their number is even."""
    lines, count = ranked_members(outputs, present)
    if present is None:
        low, high = lines[(len(lines) - 1) // 2], lines[len(lines) // 2]
    else:
        row = torch.arange(outputs.shape[1], device=outputs.device)
        low, high = lines[torch.div(count - 1, 2, rounding_mode="floor"), row], lines[count // 2, row]
    # Halved first: two of float32's largest must not overflow.
    return low * 0.5 + high * 0.5


def ranked_members(outputs: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sort the members class by class, the absent last.

    Returns:
        (M, B, C) ascending over M, infinity for the absent; (B,) how many are present.
    """
    if present is None:
        count = torch.full(outputs.shape[1:2], outputs.shape[0], device=outputs.device)
        filled = outputs
    else:
        count = present.sum(dim=0)
        filled = torch.where(present.unsqueeze(-1), outputs, torch.inf)
    return ranked(filled), count
