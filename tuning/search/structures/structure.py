"""A structure, what structures can be made of, and the questions that propose one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from quorate.tuning.search.space import Format, SearchSpace, Topology

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

# Less lets L-BFGS run for seconds and wins nothing; so does a stack over logits, beside which geometric_mean does well.
_L2 = (3e-3, 1e-1)


@dataclass(frozen=True)
class Structure:
    """What is searched.

    Attributes:
        members: that the fusion reads; what those read themselves follows from the table.
        format: of all members' numbers.
        stages: of a cascade, members in each.
        options: of the rule's fit: ``max_loss`` of a cascade, ``l2`` of a stack.
    """

    topology: Topology
    rule: str
    members: tuple[str, ...]
    format: Format = "fp32"
    stages: tuple[tuple[str, ...], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    deadline_s: float = 1.0
    quorum: int = 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Structure:
        stages = tuple(tuple(stage) for stage in content["stages"])
        return cls(**{**content, "members": tuple(content["members"]), "stages": stages})


@dataclass(frozen=True)
class Menu:
    """What structures can be made of.

    Attributes:
        members: base members.
        chains: head -> the member it reads, beside the request.
        trunks: trunk -> its heads.
        formats: those that base members were run in: format -> member -> its column; a member that is not there stays.
        deadline_s, quorum: of structures where they are not searched.
    """

    members: tuple[str, ...]
    chains: Mapping[str, str] = field(default_factory=dict)
    trunks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    formats: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {"fp32": {}})
    deadline_s: float = 1.0
    quorum: int = 1


def suggest_structure(trial: BaseTrial, space: SearchSpace, menu: Menu, latency: Mapping[str, float]) -> Structure:
    """Ask for one structure.

    Args:
        latency: of each base member, for the order of a cascade's stages.
    """
    makings = {"chain": menu.chains, "shared_trunk": menu.trunks, "cascade": menu.members[1:]}
    possible = [name for name in space.topologies if makings.get(name, True)]
    topology = trial.suggest_categorical("topology", possible or ["parallel"])
    timing = _timing(trial, space, menu)
    if topology == "chain":
        head = trial.suggest_categorical("chain.head", sorted(menu.chains))
        return Structure("chain", "weighted_mean", (menu.chains[head], head), **timing)
    if topology == "shared_trunk":
        trunk = trial.suggest_categorical("trunk", sorted(menu.trunks))
        heads = menu.trunks[trunk]
        chosen = tuple(head for head in heads if trial.suggest_categorical(f"use.{head}", [True, False]))
        return Structure("shared_trunk", "weighted_mean", chosen if len(chosen) > 1 else heads, **timing)
    numbers: Any = trial.suggest_categorical("format", list(menu.formats))
    used = [name for name in menu.members if trial.suggest_categorical(f"use.{name}", [True, False])]
    names = tuple(menu.formats[numbers].get(name, name) for name in used or menu.members[:1])
    if topology == "stack":
        options = {"l2": trial.suggest_float("stack.l2", *_L2, log=True)}
        return Structure("stack", "stacking", names, numbers, options=options, **timing)
    if topology == "cascade":
        first = trial.suggest_int("cascade.first", 1, 2)
        options = {"max_loss": trial.suggest_float("cascade.max_loss", 0.0, 0.02)}
        quickest = tuple(sorted(names, key=lambda name: (latency[name], name)))
        if len(names) > first:
            stages = (quickest[:first], quickest[first:])
            return Structure("cascade", "cascade", names, numbers, stages, options, **timing)
    rule = trial.suggest_categorical("rule", list(space.rules))
    return Structure("parallel", rule, names, numbers, **timing)


def _timing(trial: BaseTrial, space: SearchSpace, menu: Menu) -> dict[str, Any]:
    if space.deadline_s is None:
        return {"deadline_s": menu.deadline_s, "quorum": menu.quorum}
    deadline = trial.suggest_float("deadline_s", *space.deadline_s, log=True)
    return {"deadline_s": round(deadline, 6), "quorum": trial.suggest_int("quorum", 1, 3)}
