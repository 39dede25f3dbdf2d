"""Which of a cascade and a bandit stands for an ensemble: only one of the two is tested on judging rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quorate.tuning.alternatives.base import Outputs, recipe_of
from quorate.tuning.alternatives.out_of_sample import Numbers, OutOfSample
from quorate.tuning.alternatives.promises.bandited import FittedPolicy, fit_bandited, fit_policy
from quorate.tuning.alternatives.promises.cascaded import cascade_cost, fit_cascaded
from quorate.tuning.alternatives.promises.risk import Risk
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.errors import TuningError

# A bandit has more to go wrong than a cascade: it has to be cheaper by this, of what is paid.
_CHEAPER = 0.95
# On fewer rows the two are not told apart.
_BANDIT_ROWS = 500


def cheapest_promise(
    likely: Sequence[OutOfSample], parts: tuple[OutOfSample, Outputs, Outputs, Numbers, Risk],
    costs: Mapping[str, float] | None, seed: int,
) -> OutOfSample:  # fmt: skip
    """A cascade, or a bandit where that is the cheaper one on solving rows, or rows are to be explored: only one of the
    two is tested on judging rows.

    Args:
        likely: linear pools, the best first.
        parts: what it is compared with, rows, numbers and risk, as of ``fit_cascaded``.

    Raises:
        TuningError: no threshold, or no price, passes the test.
    """
    _, solve, _, _, risk = parts
    first = recipe_of(likely[0].fitted)
    assert first is not None
    policies = ((one, fit_policy(recipe_of(one.fitted), solve, costs, risk)) for one in likely)
    plain, policy = next(((one, made) for one, made in policies if made is not None), (None, None))
    if plain is not None and policy is not None and _preferred(policy, first, solve, risk, costs):
        return fit_bandited(policy, plain, *parts, seed)
    if risk.explore:
        found = "members or rows are too few for a bandit, and a cascade does not explore"
        raise TuningError("explore", found, "leave it out, or give three members or more and hundreds of rows")
    return fit_cascaded(likely[0], *parts, costs, seed)


def _preferred(
    policy: FittedPolicy, pool: Recipe, solve: Outputs, risk: Risk, costs: Mapping[str, float] | None
) -> bool:  # fmt: skip
    if risk.explore or len(solve) < _BANDIT_ROWS:
        return risk.explore > 0
    return policy.cost < _CHEAPER * cascade_cost(pool, solve, risk, costs)
