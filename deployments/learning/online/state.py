"""What of weights that learn has to be known after a restart, beside the record: what is live since when, and whose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from quorate.deployments.learning.online.history import change_to_dict
from quorate.deployments.learning.online.publishing import Change
from quorate.deployments.learning.online.relabelling.matrix import Named
from quorate.deployments.spec.ensemble import EnsembleSpec

# Of what went live by itself, the latest are told.
TOLD = 50
Weights = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Publication:
    """Weights that go live, or have.

    Attributes:
        fusion: what they make of the spec, by ``fusion_name``, and ``revision`` what that is called.
        time_us: when, since 1970.
        taken_back: whether the pinned weights are live again.
        weights: by output and member.
        gains: in nats a row, by output, and ``decided_by`` how many labels said so; of a bandit in being right less
            the price of what it asks.
        policies: of bandits instead of weights what is told of them, by output.
        relabel: what classes are called, by output.
    """

    fusion: str
    revision: str
    time_us: int
    taken_back: bool
    weights: Weights
    gains: Mapping[str, float]
    decided_by: Mapping[str, int]
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    relabel: Mapping[str, Named] = field(default_factory=dict)


@dataclass
class OnlineState:
    """Where one ensemble's learning is.

    Attributes:
        live: the fusion that is known to be live, by ``fusion_name``, and ``deployed`` the one that somebody deployed.
        pinned: the weights of that, by output and member, live since ``since_us``.
        written: the same as the spec has them: None where it leaves them out.
        relabel: what classes are called in it, by output.
        changes: of weights that went live by themselves since then, by output, and ``policies`` of bandits.
        begun: what is being made live: it may be so already.
        told: what went live by itself, also before.
        published, rolled_back: how often.
    """

    live: str = ""
    deployed: str = ""
    pinned: Weights = field(default_factory=dict)
    written: Mapping[str, Mapping[str, float] | None] = field(default_factory=dict)
    relabel: Mapping[str, Named] = field(default_factory=dict)
    since_us: int = -1
    changes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    policies: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    begun: Publication | None = None
    told: list[Publication] = field(default_factory=list)
    published: int = 0
    rolled_back: int = 0

    def reset(self, spec: EnsembleSpec, pinned: Weights, now_us: int) -> None:
        """Somebody has made a spec live."""
        self.live = self.deployed = fusion_name(spec)
        self.pinned, self.since_us = pinned, now_us
        self.written = {name: spec.all_fusions[name].weights for name in pinned}
        self.relabel = {name: spec.all_fusions[name].relabel for name in pinned}
        self.changes, self.policies, self.begun = {}, {}, None

    def went_live(self, now_us: int) -> Publication:
        """What was begun is done."""
        assert self.begun is not None
        done = replace(self.begun, time_us=now_us)
        self.live, self.begun = done.fusion, None
        self.told = [*self.told, done][-TOLD:]
        self.rolled_back += done.taken_back
        self.published += not done.taken_back
        return done

    def take_over(self, done: Publication) -> None:
        """Go on where a process ended that was making something live."""
        for output, weights in done.weights.items():
            found = np.array(list(weights.values()))
            gain, decided_by = done.gains[output], done.decided_by[output]
            named = done.relabel.get(output, {})
            change = Change(0, done.time_us, found / found.sum(), done.taken_back, gain, decided_by, named)
            self.note(output, change)
        for output, told in done.policies.items():
            self.note_policy(output, {**told, "time_us": done.time_us})

    def note(self, output: str, change: Change) -> None:
        """Weights are live that another process has learned."""
        self.changes.setdefault(output, []).append(change_to_dict(change))

    def note_policy(self, output: str, change: dict[str, Any]) -> None:
        """A bandit is live that was learned."""
        self.policies.setdefault(output, []).append(change)

    @property
    def own(self) -> bool:
        """Whether what is live is so by itself."""
        return self.live != self.deployed

    def changes_of(self, output: str) -> tuple[Change, ...]:
        """Those of an output."""
        return tuple(Change(**{**one, "weights": np.array(one["weights"])}) for one in self.changes.get(output, ()))

    def to_json(self) -> dict[str, Any]:
        """In JSON's types."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: bytes) -> OnlineState:
        """What ``to_json`` gave; a new one of nothing, or of what a later version wrote otherwise."""
        try:
            data = json.loads(stored or b"{}").get("state", {})
            begun = data.get("begun")
            data |= {"begun": None if begun is None else Publication(**begun)}
            return cls(**{**data, "told": [Publication(**one) for one in data.get("told", ())]})
        except (TypeError, ValueError):
            return cls()


def fusion_name(spec: EnsembleSpec) -> str:
    """What a spec is called but for what is done beside its answers."""
    fields = type(spec).model_fields
    plain = {name: fields[name].get_default(call_default_factory=True) for name in spec.beside}
    return spec.model_copy(update=plain).revision
