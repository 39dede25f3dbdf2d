"""Which alternatives there are, the simpler ones first."""

from __future__ import annotations

from collections.abc import Sequence

from quorate.tuning.alternatives.base import Alternative
from quorate.tuning.alternatives.calibrated import CalibratedPool, CalibratedSingle, Calibrator
from quorate.tuning.alternatives.decided import Decided
from quorate.tuning.alternatives.pools import LinearPool, LogPool
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.alternatives.stacked import Stacked
from quorate.tuning.alternatives.unfitted import ClassFrequencies, Incumbent, Member, Uniform
from quorate.tuning.alternatives.values import Constant, LeastAbsolute, LeastSquares, Median


def value_alternatives(
    names: Sequence[str], absolute: bool = False, incumbent: Recipe | None = None
) -> list[Alternative]:
    """Everything that can be made of members that predict values.

    Args:
        names: of the members.
        absolute: errors count by their size, not by its square.
        incumbent: what the spec has now.
    """
    found: list[Alternative] = [Constant(absolute), *(Member(name) for name in names)]
    if len(names) > 1:
        found.append(Uniform())
    if incumbent is not None:
        found.append(Incumbent(incumbent))
    return [*found, Median(), LeastAbsolute() if absolute else LeastSquares()] if len(names) > 1 else found


def alternatives(
    names: Sequence[str], incumbent: Recipe | None = None, decided: Decided | None = None
) -> list[Alternative]:
    """Everything that can be made of these members' class probabilities.

    Args:
        names: of the members; of one alone there is no ensemble.
        incumbent: what the spec has now.
        decided: for a metric of decisions.
    """
    calibrator = Calibrator()
    found: list[Alternative] = [ClassFrequencies(), *(Member(name) for name in names), CalibratedSingle(calibrator)]
    if len(names) > 1:
        found.append(Uniform())
    if incumbent is not None:
        found.append(Incumbent(incumbent))
    if len(names) > 1:
        found += [LinearPool(), LogPool(), CalibratedPool(calibrator), Stacked()]
    if decided is not None:
        found.append(decided)
    return found
