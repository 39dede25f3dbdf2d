"""What an architecture search may choose: member families with their ranges, topologies, rules, formats, deadlines.

The space is conditional (define by run, Optuna's term): which questions are asked depends on the answers before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import Self

from quorate.deployments.spec.fields.types import Name, Seconds
from quorate.deployments.spec.schema import Resources
from quorate.tuning.errors import SweepError

SamplerName = Literal["tpe", "nsga2", "random"]

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

FamilyName = Literal["cnn", "rnn", "transformer", "mlp", "table", "boosting", "forest"]
Topology = Literal["parallel", "cascade", "stack", "chain", "shared_trunk"]
RuleName = Literal[
    "weighted_mean", "mean", "geometric_mean", "median", "trimmed_mean", "soft_vote",
    "weighted_vote", "borda", "reciprocal_rank", "dempster_shafer",
]  # fmt: skip
Format = Literal["fp32", "bf16", "int8"]
Objective = Literal["log_loss", "error_rate", "p95_latency_s", "device_s_per_request", "memory_bytes"]
Whole = Annotated[int, Field(ge=1)]
Params = dict[str, Any]
CELLS, HEADS = ("gru", "lstm"), (1, 2, 4)


Share = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for name, value in self:
            if isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], str) and value[0] > value[1]:
                raise ValueError(f"{name}: the range ends at {value[1]:g}, before it begins at {value[0]:g}")
        return self


class Family(_Frozen):
    """Ranges of one family's hyper-parameters, both ends included."""

    width: tuple[Whole, Whole] = (8, 64)
    depth: tuple[Whole, Whole] = (1, 3)
    dropout: tuple[Share, Share] = (0.0, 0.3)
    learning_rate: tuple[Rate, Rate] = (5e-4, 1e-2)
    jitter: tuple[Share, Share] = (0.0, 0.15)


class Boosting(_Frozen):
    """Ranges of gradient boosting, both ends included: leaves of a tree, rows in a leaf."""

    leaves: tuple[Whole, Whole] = (7, 63)
    rows_in_leaf: tuple[Whole, Whole] = (5, 60)
    learning_rate: tuple[Rate, Rate] = (3e-2, 2e-1)


class Forest(_Frozen):
    """Ranges of a forest, both ends included: rows in a leaf, share of the features that a node chooses from."""

    rows_in_leaf: tuple[Whole, Whole] = (1, 10)
    features: tuple[Rate, Rate] = (0.1, 1.0)


class Heads(_Frozen):
    """Ranges of members that read members, both ends included: perceptrons over what those say."""

    width: tuple[Whole, Whole] = (16, 128)
    depth: tuple[Whole, Whole] = (1, 2)
    dropout: tuple[Share, Share] = (0.0, 0.3)
    learning_rate: tuple[Rate, Rate] = (1e-3, 1e-2)


AnyFamily = Family | Boosting | Forest
FAMILIES: dict[FamilyName, AnyFamily] = {
    "cnn": Family(width=(4, 32)),
    "rnn": Family(width=(16, 96), depth=(1, 2)),
    "transformer": Family(width=(16, 64), depth=(1, 3), learning_rate=(5e-4, 5e-3)),
    "mlp": Family(width=(16, 192)),
    "table": Family(width=(32, 256), learning_rate=(5e-4, 5e-3)),
    "boosting": Boosting(),
    "forest": Forest(),
}
# Who reads what: images (channels, height, width), or flat rows.
_OF_IMAGES, _OF_ROWS = ("cnn", "rnn", "transformer", "mlp"), ("table", "boosting", "forest", "mlp")
# Numbers that the first layer of a table's network reads, at most; bins of one feature, at most and at least.
_ENCODED, _BINS = 4096, (4, 48)


class SearchSpace(_Frozen):
    """The whole space. Narrow it by naming less.

    Attributes:
        name: of the ensembles that come out.
        families: of members to train; none trains no members.
        heads: of chains and shared trunks.
        head_trials: heads to train, for the two topologies in turn; none leaves both out.
        epochs: of a member that no rung stops.
        batch_size: rows in a training step.
        topologies: parallel (a rule over members that read the request), cascade (expensive members only for rows
            that are not clear), stack (a learned rule over members), chain (a member that reads the request and another
            member), shared_trunk (several heads read one member's features).
        rules: of parallel members; the weights of the last four are searched in each trial, which takes a second or so.
        formats: of members' numbers; int8 needs torchao (``pip install 'quorate[int8]'``).
        deadline_s: range of deadlines to try where latency is an objective; from the measured latencies when None.
        candidates: members that structures choose from, the most useful ones of those trained and given.
        resources: of a trial, and of the members of the specs that come out.
    """

    name: Name = "searched"
    families: dict[FamilyName, AnyFamily] = Field(default_factory=lambda: dict(FAMILIES))
    heads: Heads = Field(default_factory=Heads)
    head_trials: Annotated[int, Field(ge=0)] = 6
    epochs: Whole = 30
    batch_size: Whole = 64
    topologies: Annotated[tuple[Topology, ...], Field(min_length=1)] = (
        "parallel", "cascade", "stack", "chain", "shared_trunk",
    )  # fmt: skip
    rules: Annotated[tuple[RuleName, ...], Field(min_length=1)] = ("weighted_mean", "mean", "geometric_mean", "median")
    formats: Annotated[tuple[Format, ...], Field(min_length=1)] = ("fp32",)
    deadline_s: tuple[Seconds, Seconds] | None = None
    candidates: Annotated[int, Field(ge=1, le=32)] = 8
    resources: Resources = Resources(num_cpus=1.0)

    @field_validator("families", mode="before")
    @classmethod
    def _of_their_kind(cls, families: Any) -> Any:
        """Ranges that are given as words are those of the family that they are given for."""
        if not isinstance(families, Mapping):
            return families
        return {
            name: type(FAMILIES[name]).model_validate(ranges) if name in FAMILIES else ranges
            for name, ranges in families.items()
        }

    def fitting(self, shape: Sequence[int]) -> SearchSpace:
        """The space for one request input: families that read images, or flat rows.

        Raises:
            SweepError: no family can read rows of this shape.
        """
        reading = _OF_IMAGES if len(shape) == 3 else _OF_ROWS if len(shape) == 1 else ()
        kept = {name: family for name, family in self.families.items() if name in reading}
        if self.families and not kept:
            fix = "give images (channels, height, width), flat rows for table, or a spec with members of your own"
            raise SweepError("families", f"none of {', '.join(self.families)} reads rows {list(shape)}", fix)
        return self.model_copy(update={"families": kept})


def suggest_member(trial: BaseTrial, space: SearchSpace, shape: Sequence[int]) -> tuple[Params, Params]:
    """Ask for one member.

    Args:
        trial: Optuna's.
        space: fitting the data.
        shape: of one row, (channels, height, width) or (features,).

    Returns:
        The family and, of a network, the config for ``architectures.build``; and what goes into ``Training``, or for
        trees into ``TreeTraining``.
    """
    name: Any = trial.suggest_categorical("family", sorted(space.families))
    family = space.families[name]
    if not isinstance(family, Family):
        return {"family": name}, _trees(trial, name, family)
    image = as_image(shape)
    config: Params = {"family": name, "image": image}
    config["width"] = _width(trial, name, family)
    config["depth"] = trial.suggest_int(f"{name}.depth", family.depth[0], deepest(name, family, image))
    config["dropout"] = round(trial.suggest_float(f"{name}.dropout", *family.dropout), 3)
    if name == "rnn":
        config["cell"] = trial.suggest_categorical("rnn.cell", list(CELLS))
    if name == "transformer":
        config["heads"] = trial.suggest_categorical("transformer.heads", list(HEADS))
        config["patch"] = trial.suggest_categorical("transformer.patch", patches(image))
    if name == "table":
        config["bins"] = max(_BINS[0], min(_BINS[1], _ENCODED // math.prod(image)))
    how: Params = {"learning_rate": trial.suggest_float(f"{name}.learning_rate", *family.learning_rate, log=True)}
    if len(shape) == 3:
        how["jitter"] = round(trial.suggest_float(f"{name}.jitter", *family.jitter), 3)
    return config, how


def as_image(shape: Sequence[int]) -> list[int]:
    """A row as networks take it: (channels, height, width), flat rows as (1, 1, features)."""
    return list(shape) if len(shape) == 3 else [1, 1, *shape]


def suggest_head(
    trial: BaseTrial, space: SearchSpace, topology: Topology, sources: Sequence[str]
) -> tuple[str, Params, Params]:
    """Ask for one head of a chain or a shared trunk.

    Args:
        sources: whom it can read.

    Returns:
        The source, width, depth and dropout of the head, and what goes into ``Training``.
    """
    source = str(trial.suggest_categorical(f"{topology}.source", list(sources)))
    heads = space.heads
    config: Params = {
        "width": trial.suggest_int(f"{topology}.width", *heads.width, log=True),
        "depth": trial.suggest_int(f"{topology}.depth", *heads.depth),
        "dropout": round(trial.suggest_float(f"{topology}.dropout", *heads.dropout), 3),
    }
    rate = trial.suggest_float(f"{topology}.learning_rate", *heads.learning_rate, log=True)
    return source, config, {"learning_rate": rate}


def _trees(trial: BaseTrial, name: str, family: Boosting | Forest) -> Params:
    how: Params = {"kind": name, "rows_in_leaf": trial.suggest_int(f"{name}.rows_in_leaf", *family.rows_in_leaf)}
    if isinstance(family, Forest):
        return {**how, "features": round(trial.suggest_float("forest.features", *family.features), 3)}
    how["leaves"] = trial.suggest_int("boosting.leaves", *family.leaves, log=True)
    return {**how, "learning_rate": trial.suggest_float("boosting.learning_rate", *family.learning_rate, log=True)}


def _width(trial: BaseTrial, name: str, family: Family) -> int:
    low, high = family.width
    if name != "transformer":
        return trial.suggest_int(f"{name}.width", low, high, log=True)
    low, high = fours(low, high)
    return 4 * trial.suggest_int(f"{name}.width_by_4", low, high, log=True)


def fours(low: int, high: int) -> tuple[int, int]:
    """A transformer's widths in fours: 1, 2 and 4 heads divide every one."""
    return -(-low // 4), max(high // 4, -(-low // 4))


def deepest(name: str, family: Family, image: Sequence[int]) -> int:
    """A cnn halves the image after each stage but the last."""
    side = min(image[1:])
    most = side.bit_length() if name == "cnn" else family.depth[1]
    return max(family.depth[0], min(family.depth[1], most))


def patches(image: Sequence[int]) -> list[int]:
    """Patch sizes that divide both sides and leave 4 to 64 of them; the whole image where there is none."""
    sizes = [p for p in range(2, 17) if image[1] % p == 0 and image[2] % p == 0]
    fitting = [p for p in sizes if 4 <= (image[1] // p) * (image[2] // p) <= 64]
    return fitting or sizes[-1:] or [1]
