"""The structures worth deploying, each as a spec with all it names, judged on rows nothing was fitted on."""

# M members, N rows, C classes

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import parse_spec, save_spec
from quorate.deployments.spec.schema import MemberSpec
from quorate.fusion.base import Rule
from quorate.tuning.alternatives.base import Outputs
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.evaluation.choice import compare_answers
from quorate.tuning.evaluation.verdict import Choice
from quorate.tuning.runs.probe import save_probe
from quorate.tuning.runs.run_folder import save_deployable, save_report, save_state
from quorate.tuning.scoring import member_losses
from quorate.tuning.search.journal import Finished, saving
from quorate.tuning.search.space import Objective
from quorate.tuning.search.structures.evaluation import cost, fit_rule
from quorate.tuning.search.structures.structure import Structure
from quorate.tuning.search.structures.table import Table

# What a pick is called among the alternatives that it is judged with.
STRUCTURE = "structure"


@dataclass(frozen=True)
class Pick:
    """One structure of the Pareto set.

    Attributes:
        number: its trial's.
        spec: deployable from ``folder``.
        values: every objective, as the search saw it on validation rows.
        weights: share of each member where the rule has weights.
        judgement: what the held-out rows say of it (``STRUCTURE``), its members, their mean and the best member.
        fused: (N, C) what it answers on the held-out rows.
    """

    number: int
    spec: EnsembleSpec
    folder: Path
    structure: Structure
    values: Mapping[str, float]
    weights: Mapping[str, float]
    judgement: Choice
    fused: NDArray[np.float32]

    @property
    def log_loss(self) -> float:
        """On held-out rows, nats per row."""
        return self.judgement.alternatives[STRUCTURE].value

    def to_dict(self) -> dict[str, Any]:
        return {
            "trial": self.number,
            "spec": str(self.folder / "spec.yaml"),
            "structure": self.structure.to_json(),
            "values": dict(self.values),
            "weights": dict(self.weights),
            "judgement": self.judgement.to_dict(),
            "verdict": self.judgement.verdict,
        }


class Picker:
    """Turns trials into picks."""

    def __init__(
        self,
        run: Path,
        base: EnsembleSpec,
        members: Mapping[str, MemberSpec],
        names: Sequence[str],
        table: Table,
        held_out: Table,
        judged_on: Labelled,
        rows: NDArray[np.intp],
    ):
        """
        Args:
            run: the run's folder; the members' files are relative to it.
            base: its name, inputs, classes and serving are the picks'.
            members: every column's member.
            names: those that read the request and run in full precision, with which picks are compared.
            table: validation rows, to fit on.
            held_out: other rows, to judge on.
            judged_on: the held-out split, and ``rows`` the numbers of its rows in ``held_out``.
        """
        self._run, self._base, self._members = run, base, dict(members)
        self.names, self.table, self.held_out = tuple(names), table, held_out
        self._judged_on, self._rows = judged_on, rows
        self.best_member = names[int(member_losses(table.rows_of(names), table.labels).argmin())]

    def pick(self, place: int, trial: Finished) -> Pick:
        """Fit a trial's structure on all validation rows and write it below ``pareto/PLACE``."""
        structure = Structure.from_json(trial.details["structure"])
        outputs = self.table.rows_of(structure.members)
        rule = fit_rule(structure, outputs, self.table.labels)
        folder = self._run / "pareto" / str(place)
        with saving(self._run):
            spec = self._write(structure, rule, trial.number, folder)
            fused = rule.fuse(torch.from_numpy(self.held_out.rows_of(structure.members))).values.numpy()
            judgement = self._judge(structure, fused)
            weights = dict(spec.output_fusion.weights or {})
            pick = Pick(trial.number, spec, folder, structure, trial.values, weights, judgement, fused)
            save_report(pick.to_dict(), folder)
            for where in (folder, self._run) if place == 0 else (folder,):
                save_probe(where, spec, self._judged_on, self._rows, fused)
        return pick

    def cost_alone(self, name: str) -> dict[str, float]:
        """What one member alone costs, by objective."""
        return cost(Structure("parallel", "mean", (name,), deadline_s=math.inf), self.table)

    def spec(self, structure: Structure, rule: Rule, state: str | None) -> EnsembleSpec:
        """The structure as a spec whose paths start from the run's folder."""
        data = self._base.model_dump(
            mode="json", exclude_defaults=True, include={"name", "classes", "serving", "placement"}
        )
        members = self.table.closure(structure.members)
        dumped = {name: self._members[name].model_dump(mode="json", exclude_defaults=True) for name in members}
        read = {source for member in dumped.values() for source in member["inputs"]}
        inputs = {n: t.model_dump(mode="json") for n, t in self._base.inputs.items() if n in read}
        fusion = {**rule.to_spec(structure.members), "deadline_s": structure.deadline_s, "quorum": structure.quorum}
        if state:
            fusion["state"] = state
        return parse_spec({**data, "inputs": inputs, "members": dumped, "fusion": fusion})

    def _write(self, structure: Structure, rule: Rule, number: int, folder: Path) -> EnsembleSpec:
        spec = self.spec(structure, rule, save_state(rule.state(), self._run, f"{number:05d}"))
        if folder.name == "0":
            save_spec(spec, self._run / "spec.yaml")
        folder.mkdir(parents=True, exist_ok=True)
        return save_deployable(spec, self._run, folder)

    def _judge(self, structure: Structure, fused: NDArray[np.float32]) -> Choice:
        names = tuple(dict.fromkeys([*structure.members, self.best_member]))
        held = Outputs(names, self.held_out.rows_of(names), self.held_out.labels)
        return compare_answers(held, self.table.labels, structure.members, STRUCTURE, fused)


def spread(front: Sequence[Finished], most: int) -> list[Finished]:
    """At most so many of a front that is in order, its ends among them."""
    if len(front) <= most:
        return list(front)
    return [front[index] for index in sorted({round(i) for i in np.linspace(0, len(front) - 1, most)})]


def pareto(finished: Sequence[Finished], objectives: Sequence[Objective]) -> list[Finished]:
    """Trials that no other betters in one objective without losing in another, the lowest first objective first.

    Of several with the same values the first proposed stays.
    """
    good = [trial for trial in finished if trial.failure is None]
    points = np.array([[trial.values[name] for name in objectives] for trial in good])
    front, seen = [], set()
    for index, trial in enumerate(good):
        dominated = ((points <= points[index]).all(axis=1) & (points < points[index]).any(axis=1)).any()
        key = tuple(points[index])
        if not dominated and key not in seen:
            seen.add(key)
            front.append(trial)
    return sorted(front, key=lambda trial: (*(trial.values[name] for name in objectives), trial.number))
