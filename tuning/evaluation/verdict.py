"""What follows for an ensemble from how its alternatives did, as numbers and as a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from quorate.deployments.display import Table
from quorate.fusion.evaluation.significance import Interval
from quorate.tuning.alternatives.base import Kind
from quorate.tuning.alternatives.promises.cascaded import Cascaded
from quorate.tuning.alternatives.promises.rejected import Rejected
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.alternatives.unfitted import CLASS_FREQUENCIES, INCUMBENT, UNIFORM
from quorate.tuning.evaluation.bayesian_bootstrap import FEW
from quorate.tuning.evaluation.price import Cost

Decision = Literal["nothing", "single", "undecided", "ensemble"]
# Below this two alternatives are the same in all but the order of their sums.
SAME = 1e-9
# A member that says less of a class rules it out.
LEAST_SAID = 1e-9
_FLOORS = {CLASS_FREQUENCIES: "guessing by class frequencies", "no_order": "no order at all"}


@dataclass(frozen=True)
class Standing:
    """One alternative.

    Attributes:
        kind: floor, single or ensemble.
        members: how many it asks.
        value: of the metric, on the held-out rows, and the ends of its 95 % interval; intervals of all alternatives
            hold at once.
        cross_validated: the same on solving rows, out of fold; None where only held-out rows were looked at.
        gain: how much better the recommended one is, on all rows that neither was fitted on; net of what both cost to
            serve where that counts.
        cost: of serving it; None where that was not asked.
    """

    kind: Kind
    members: int
    value: float
    low: float
    high: float
    cross_validated: float | None
    gain: Interval
    cost: Cost | None = None


@dataclass(frozen=True)
class Proof:
    """A gain beyond chance.

    Attributes:
        gain: of what is best on one half of the rows, on the other half, or on all of them by bounds that hold for all
            alternatives; with the interval that was looked at.
        rows: how many showed it.
    """

    gain: Interval
    rows: int


@dataclass(frozen=True)
class Choice:
    """What to serve.

    Attributes:
        metric: by which.
        recommended: a name among ``alternatives``.
        decision: nothing, one member, or an ensemble, as was shown; undecided where neither was, and an ensemble is the
            better guess.
        best_single: the best of one member, calibrated or not.
        proof: what showed that an ensemble is better than the best single one (of a cascade the ensemble that it
            stands for), or that one better than class frequencies; None where nothing is worth serving.
        rows: held-out rows.
        evidence_rows: rows that the comparisons are made on; ``groups`` where rows belong together.
        min_gain: the least gain that is worth asking more members for.
        left_out: why an alternative was not tried, by name.
        unbounded: members that say next to 0 of classes, so that a single row may cost more log-loss than all others:
            no best single one, but calibrated with a floor.
        counted: what rows are called: lists, where each of them is one.
        cascade: what stands for the recommended ensemble at a stated risk, where one was asked for and shown.
        rejected: rows that alternatives do not answer, so that few of the others are wrong, where that was asked for.
        recipes: as they were judged: fitted on the solving rows alone.
        refitted: those that are fitted again on all rows, which the figures say nothing of.
        refit_rows: how many.
        not_refitted: why none is, where they could have been.
    """

    metric: str
    unit: str
    recommended: str
    decision: Decision
    best_single: str
    proof: Proof | None
    rows: int
    evidence_rows: int
    groups: int
    min_gain: float
    alternatives: Mapping[str, Standing]
    recipes: Mapping[str, Recipe]
    left_out: Mapping[str, str]
    unbounded: tuple[str, ...] = ()
    counted: str = "rows"
    cascade: Cascaded | None = None
    rejected: Mapping[str, Rejected] = field(default_factory=dict)
    refitted: Mapping[str, Recipe] = field(default_factory=dict)
    refit_rows: int = 0
    not_refitted: str = ""

    @property
    def served(self) -> Mapping[str, Recipe]:
        """What specs say: fitted on all rows where that was done."""
        return {**self.recipes, **self.refitted}

    @property
    def refit(self) -> str:
        """What is served beside what was judged, as a sentence; empty where they are the same."""
        if self.not_refitted:
            return f"served as judged, not fitted again on all rows: {self.not_refitted}"
        if not self.refitted:
            return ""
        which = self.recommended if self.recommended in self.refitted else "what learns of the others"
        return (
            f"{which} is served fitted again on all {self.refit_rows} {self.counted}, those that judged among them; "
            "figures and verdict are of what was fitted without these"
        )

    @property
    def verdict(self) -> str:
        """The decision as a sentence with its reason."""
        others = {name: one for name, one in self.alternatives.items() if one.kind == "ensemble"}
        if self.decision == "nothing":
            near = self._nearest([name for name in self.alternatives if name != self.recommended])
            floor = _FLOORS.get(self.recommended, "guessing by one constant value")
            said = f"nothing is worth serving: no alternative is shown to be better than {floor}"
            return f"{said}; the nearest is {near}, {self._over(near, self.recommended)}{self._rows}"
        if self.decision == "single":
            said = f"do not ensemble, serve {self.recommended}"
            before = self.alternatives.get(INCUMBENT)
            if not others and before is not None and abs(before.gain.difference) > SAME:
                return f"serve {self.recommended}: {self._by(INCUMBENT)} over {INCUMBENT}{self._rows}"
            if not others:
                floor = next(name for name, one in self.alternatives.items() if one.kind == "floor")
                said = f"serve {self.recommended}: {self._by(floor)} over {floor}"
                return f"{said}; there is no ensemble to compare it with{self._rows}"
            near = self._nearest(list(others))
            gain = self.alternatives[near].gain
            if gain.low > SAME:
                return f"{said}: it is better than every ensemble, by {self._by(near)} over {near}{self._rows}"
            return (
                f"{said}: no ensemble is shown to be better, which does not say that none is; the nearest is {near}, "
                f"{self._over(near, self.recommended)}{self._rows}"
            )
        by = f"{self._by(self.best_single)} over {self.best_single}"
        if self.decision == "undecided":
            return (
                f"serve {self.recommended} until more rows say more: {by}, which may be chance; no ensemble is shown "
                f"to be better, which does not say that none is{self._rows}"
            )
        said = f"ensemble, serve {self.recommended}: {by}"
        if self.cascade is not None and self.recommended == self.cascade.name:
            return f"{said}; {self.cascade.sentence()}{self._rows}"
        proof = self.proof
        if proof is not None and self.alternatives[self.best_single].gain.low <= SAME:
            said += f"; chosen on one half of the rows and judged on the other, {signed(proof.gain.difference)}"
            said += f" ({span(proof.gain)})"
        if self.recommended != UNIFORM and UNIFORM in others:
            gain = self.alternatives[UNIFORM].gain
            if abs(gain.difference) > SAME:
                said += f"; {self._by(UNIFORM)} over the uniform mean"
                said += ", which may be chance" if gain.low <= SAME else ""
        return said + self._rows

    def without(self, name: str, why: str) -> Choice:
        """The same with an alternative that was asked for and is none, and why."""
        return replace(self, left_out={**self.left_out, name: why})

    @property
    def summary(self) -> str:
        """The verdict and what is served of it."""
        return "; ".join(filter(None, (self.verdict, self.refit)))

    def as_judged(self, why: str) -> Choice:
        """The same with nothing fitted again, and why."""
        return replace(self, refitted={}, refit_rows=0, not_refitted=why)

    def with_recipe(self, name: str, recipe: Recipe) -> Choice:
        """The same with other numbers for an alternative that answers as it did where every member does."""
        return replace(self, recipes={**self.recipes, name: recipe})

    def with_refit(self, name: str, recipe: Recipe | None) -> Choice:
        """The same with other numbers for what is served of an alternative; served as it was judged when None."""
        others = {other: one for other, one in self.refitted.items() if other != name}
        return replace(self, refitted=others if recipe is None else {**self.refitted, name: recipe})

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        alternatives = {
            name: {
                self.metric: one.value, "low": one.low, "high": one.high, "cross_validated": one.cross_validated,
                "kind": one.kind, "members": one.members, "gain_of_recommended": asdict(one.gain),
                **({} if one.cost is None else asdict(one.cost)),
            }
            for name, one in self.alternatives.items()
        }  # fmt: skip
        return {
            "recommended": self.recommended, "verdict": self.verdict, "decision": self.decision, "metric": self.metric,
            "best_single": self.best_single, "rows": self.rows, "evidence_rows": self.evidence_rows,
            "groups": self.groups, "min_gain": self.min_gain, "alternatives": alternatives,
            "left_out": dict(self.left_out), "unbounded": list(self.unbounded),
            "refit": {
                "alternatives": list(self.refitted), "rows": self.refit_rows, "why_not": self.not_refitted or None
            },
            **({} if self.cascade is None else {"cascade": asdict(self.cascade)}),
            **({"rejected": {name: asdict(one) for name, one in self.rejected.items()}} if self.rejected else {}),
        }  # fmt: skip

    def table(self) -> Table:
        """Every alternative on the held-out rows, the verdict below."""
        rows: list[tuple[str, ...]] = [
            (
                f"{name} *" if name == self.recommended else name,
                str(one.members),
                f"{one.value:.4f}",
                f"{one.low:.4f} to {one.high:.4f}",
                "" if one.cross_validated is None else f"{one.cross_validated:.4f}",
                "" if name == self.recommended else f"{signed(one.gain.difference)} ({span(one.gain)})",
            )
            for name, one in self.alternatives.items()
        ]
        columns: tuple[str, ...] = ("", "members", self.metric, "95 %", "cross-validated")
        columns = (*columns, f"gain of {self.recommended}")
        costs = [one.cost for one in self.alternatives.values()]
        lines = [f"{self.rows} held-out {self.counted}", self.verdict]
        if any(cost is not None for cost in costs):
            columns = (*columns, "ms", "device ms")
            said = [("", "") if cost is None else (f"{cost.latency_ms:.3f}", f"{cost.device_ms:.3f}") for cost in costs]
            rows = [(*row, *more) for row, more in zip(rows, said, strict=True)]
            lines.append("gains are net of what milliseconds cost")
        if self.cascade is not None and self.recommended != self.cascade.name:
            lines.append(self.cascade.sentence())
        if self.recommended in self.rejected:
            lines.append(self.rejected[self.recommended].sentence())
        lines += [f"not tried: {why}" for why in self.left_out.values()]
        if self.unbounded:
            named = ", ".join(self.unbounded)
            lines.append(f"next to 0 for some class, which log-loss has no bound for without a floor: said by {named}")
        if self.refit:
            lines.append(self.refit)
        return Table(columns, rows, lines=lines)

    @property
    def _rows(self) -> str:
        what = f"{self.evidence_rows} {self.counted}" if self.groups == self.evidence_rows else (
            f"{self.evidence_rows} {self.counted} in {self.groups} groups"
        )  # fmt: skip
        few = f"; so few that only what also passes an exact test counts (less than {FEW})" if self.groups < FEW else ""
        return f" ({what}{few})"

    def _nearest(self, names: Sequence[str]) -> str:
        return min(names, key=lambda name: self.alternatives[name].gain.difference)

    def _by(self, name: str) -> str:
        """How much better than ``name`` the recommended one is."""
        gain = self.alternatives[name].gain
        return f"{signed(gain.difference)} {self.unit} ({signed(gain.low)} to {signed(gain.high)})"

    def _over(self, name: str, other: str) -> str:
        """How much better than the recommended one ``name`` is."""
        gain = self.alternatives[name].gain
        return f"{signed(-gain.difference)} {self.unit} ({signed(-gain.high)} to {signed(-gain.low)})"


def signed(number: float) -> str:
    """With its sign and four decimals; what rounds to nothing has no minus."""
    return f"{round(number, 4) + 0.0:+.4f}"


def span(interval: Interval) -> str:
    return f"{signed(interval.low)} to {signed(interval.high)}"
