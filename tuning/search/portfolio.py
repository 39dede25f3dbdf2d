"""Configurations that are often good, which a search begins with: the best of each family first, then variations.

They were chosen by hand after a few runs on Fashion-MNIST, digits and Adult (benchmarks/search.py); a portfolio instead
of a random start is from Feurer et al. 2022, "Auto-Sklearn 2.0", section 3. A space that allows less gets the nearest
that it allows.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quorate.deployments.spec.schema import MemberSpec
from quorate.tuning.architectures import BUILD
from quorate.tuning.architectures.networks import FAMILIES
from quorate.tuning.search.space import (
    CELLS,
    HEADS,
    AnyFamily,
    Family,
    Params,
    SearchSpace,
    as_image,
    deepest,
    fours,
    patches,
)

# Sizes are for 28 x 28 images and tables of thousands of rows.
_IMAGES: tuple[Params, ...] = (
    {"family": "cnn", "width": 16, "depth": 3, "dropout": 0.1, "learning_rate": 5e-3, "jitter": 0.05},
    {"family": "rnn", "width": 64, "depth": 1, "cell": "gru", "dropout": 0.2, "learning_rate": 4e-3, "jitter": 0.05},
    {
        "family": "transformer", "width": 48, "depth": 2, "dropout": 0.1, "heads": 4, "patch": 4,
        "learning_rate": 2e-3, "jitter": 0.05,
    },
    {"family": "mlp", "width": 192, "depth": 2, "dropout": 0.2, "learning_rate": 3e-3, "jitter": 0.05},
    {"family": "cnn", "width": 24, "depth": 3, "dropout": 0.2, "learning_rate": 4e-3, "jitter": 0.1},
    {"family": "cnn", "width": 16, "depth": 2, "dropout": 0.1, "learning_rate": 5e-3, "jitter": 0.02},
)  # fmt: skip
_ROWS: tuple[Params, ...] = (
    {"family": "boosting", "leaves": 15, "rows_in_leaf": 20, "learning_rate": 0.08},
    {"family": "table", "width": 128, "depth": 2, "dropout": 0.2, "learning_rate": 2e-3},
    {"family": "forest", "rows_in_leaf": 3, "features": 0.5},
    {"family": "boosting", "leaves": 31, "rows_in_leaf": 40, "learning_rate": 0.04},
    {"family": "table", "width": 64, "depth": 1, "dropout": 0.1, "learning_rate": 3e-3},
    {"family": "mlp", "width": 128, "depth": 2, "dropout": 0.2, "learning_rate": 2e-3},
)
# Of the usual learning rate, for what has been trained already: the whole would undo much of it.
_WARM = 0.3


@dataclass(frozen=True)
class First:
    """A trial that is not proposed by the sampler.

    Attributes:
        params: as Optuna names them.
        weights: a file to begin with, from the run's folder; None for a network of its own start.
    """

    params: Params
    weights: str | None = None


def first_trials(
    space: SearchSpace, shape: Sequence[int], given: Mapping[str, MemberSpec]
) -> tuple[SearchSpace, list[First]]:
    """Given members first, each trained on from its weights, then the portfolio.

    Args:
        space: fitting the data.
        shape: of one row.
        given: members; only networks of ``architectures.build`` in a family of the space count.

    Returns:
        The space with room for the given members' sizes, and the trials.
    """
    known = portfolio(space, shape)
    ours = [m for m in given.values() if m.model == BUILD and m.config.get("family", "cnn") in space.families]
    warm = []
    for member in ours:
        config = _whole(member.config)
        name: Any = config["family"]
        space = _with_room(space, config)
        usual = next(one for one in known if one["family"] == name)
        rate = _WARM * usual[f"{name}.learning_rate"]
        asked = as_params({**config, "learning_rate": rate}, space, shape)
        warm.append(First({**usual, **asked}, member.weights))
    return space, [*warm, *(First(params) for params in known)]


def portfolio(space: SearchSpace, shape: Sequence[int]) -> list[Params]:
    """What ``suggest_member`` is to answer first.

    Args:
        space: fitting the data.
        shape: of one row, (channels, height, width) or (features,).

    Returns:
        Params as Optuna names them, each of them once.
    """
    known = _IMAGES if len(shape) == 3 else _ROWS
    side = min(as_image(shape)[1:])
    scaled = [{**one, "patch": round(one["patch"] * side / 28)} if "patch" in one else one for one in known]
    named = [as_params(one, space, shape) for one in scaled if one["family"] in space.families]
    return [params for place, params in enumerate(named) if params not in named[:place]]


def as_params(config: Mapping[str, Any], space: SearchSpace, shape: Sequence[int]) -> Params:
    """The nearest to a configuration that the space allows, as Optuna names it."""
    name: Any = config["family"]
    family, image = space.families[name], as_image(shape)
    found: Params = {"family": name}
    for key, value in config.items():
        if key == "jitter" and len(shape) != 3:
            continue
        if key in type(family).model_fields:
            found[f"{name}.{key}"] = _within(value, _range(name, family, key, image))
    if name == "transformer":
        low, high = fours(*_range(name, family, "width", image))
        found["transformer.width_by_4"] = _within(round(found.pop("transformer.width") / 4), (low, high))
        found["transformer.heads"] = _nearest(config["heads"], HEADS)
        found["transformer.patch"] = _nearest(config["patch"], patches(image))
    if name == "rnn":
        found["rnn.cell"] = config["cell"] if config["cell"] in CELLS else CELLS[0]
    return found


def _whole(config: Mapping[str, Any]) -> Params:
    """A network's config with what it leaves out."""
    family = config.get("family", "cnn")
    parameters = inspect.signature(FAMILIES[family]).parameters.values()
    usual = {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}
    return {"family": family, **usual, **config}


def _with_room(space: SearchSpace, config: Mapping[str, Any]) -> SearchSpace:
    """The space with ranges that hold a network's sizes."""
    name: Any = config["family"]
    family = space.families[name]
    wider = {}
    for key in ("width", "depth", "dropout"):
        low, high = getattr(family, key)
        wider[key] = (min(low, config[key]), max(high, config[key]))
    families = {**space.families, name: family.model_copy(update=wider)}
    return space.model_copy(update={"families": families})


def _range(name: str, family: AnyFamily, key: str, image: Sequence[int]) -> tuple[Any, Any]:
    low, high = getattr(family, key)
    return (low, deepest(name, family, image)) if key == "depth" and isinstance(family, Family) else (low, high)


def _within(value: Any, ends: tuple[Any, Any]) -> Any:
    return min(max(value, ends[0]), ends[1])


def _nearest(value: int, among: Sequence[int]) -> int:
    return min(among, key=lambda one: (abs(one - value), one))
