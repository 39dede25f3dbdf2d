"""The search for members: each is worth what it adds to the best ensemble of all the others.

Every generation all finished members are valued anew against each other, so that a good member that a better one has
made useless no longer draws proposals towards itself.
"""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import parse_spec
from quorate.deployments.spec.schema import MemberJob, MemberSpec
from quorate.deployments.wire.datatypes import datatype_of
from quorate.tuning.architectures import BUILD, TREES
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.predictions.run_member import Inputs, Runner, run_in_process
from quorate.tuning.predictions.store import PredictionStore
from quorate.tuning.scoring import Floats, true_class
from quorate.tuning.search.asha import cutoffs
from quorate.tuning.search.generations import Task
from quorate.tuning.search.journal import Finished, saving
from quorate.tuning.search.members.training_search import Say, TrainingSearch
from quorate.tuning.search.portfolio import first_trials
from quorate.tuning.search.sampler import Proposals
from quorate.tuning.search.space import SearchSpace, suggest_member
from quorate.tuning.solvers.simplex import solve_log_loss

# A member without weight in the best ensemble is told what a tenth of it there would cost: a slope to search along.
_TRIED_SHARE = 0.1


class MemberSearch(TrainingSearch):
    """Proposes members to train, values them, keeps their predictions in the store (``Generations``)."""

    phase = "members"

    def __init__(
        self,
        folder: Path,
        space: SearchSpace,
        data: Mapping[str, Labelled],
        *,
        trials: int,
        seed: int,
        parallel: int,
        cheap: bool,
        say: Say,
        known: Mapping[str, Floats],
        given: Mapping[str, MemberSpec] | None = None,
    ):
        """
        Args:
            folder, data, seed, parallel, say: as of ``TrainingSearch``.
            space: fitting the data.
            trials: members to propose in all.
            cheap: whether small members are worth something by themselves, since a cost is an objective.
            known: (N,) probability of the true class on the validation rows, of members that are there already.
            given: members whose configurations are tried first, from their weights.
        """
        super().__init__(folder, space, data, seed=seed, parallel=parallel, say=say)
        self.trials, self._cheap, self._known = trials, cheap, known
        self.store = PredictionStore(folder / "predictions")
        self._shape = row_shape(data["train"])
        self._space, self._first = first_trials(space, self._shape, given or {})
        for number, trial in self._recorded().items():
            damage = self._damage(trial)
            if damage is not None:
                say(f"member {number}: {damage}: trained again")
                continue
            self.finished[number] = trial
            if trial.failure is None:
                self._fill(self.name(trial), trial)

    def done(self, number: int, outcome: Mapping[str, Any] | None) -> None:
        """See ``Generations``."""
        outcome = self._checked(number, outcome)
        trial = Finished(number, self._params[number], failure=outcome.get("failure"), details=outcome)
        if trial.failure is None:
            name = self.name(trial)
            self._fill(name, trial)
            loss = float(-np.log(self._columns({name: trial})[name]).mean())
            trial = replace(trial, values={"log_loss": loss, "memory_bytes": float(outcome["memory_bytes"])})
        else:
            self._say(f"member {number} failed: {trial.failure}")
        self._journal.write("members", trial)
        (self._place(number) / "predictions.safetensors").unlink(missing_ok=True)
        self.finished[number] = trial

    @property
    def members(self) -> dict[str, MemberSpec]:
        """Trained members by name, in the order of their numbers."""
        return {self.name(trial): MemberSpec(**trial.details["member"]) for trial in self._good()}

    def name(self, trial: Finished) -> str:
        return f"{trial.params['family']}-{trial.number:03d}"

    def worth(self, finished: Sequence[Finished]) -> dict[int, float]:
        """What the best ensemble of the others loses by each member, nats per row: below 0 for one that helps."""
        good = {self.name(trial): trial for trial in finished if trial.failure is None}
        columns = {**self._known, **self._columns(good)}
        found = {}
        for name, trial in good.items():
            others = np.stack([column for other, column in columns.items() if other != name] or [columns[name]])
            found[trial.number] = _worth(others, columns[name])
        return found

    def _propose(self, generation: int, numbers: range, known: range) -> list[Task]:
        before = [self.finished[number] for number in known]
        proposals = Proposals(
            lambda trial: suggest_member(trial, self._space, self._shape),
            1 + self._cheap, "tpe", self._seed, self._parallel,
        )  # fmt: skip
        worth = self.worth(before)
        costs = {trial.number: trial.values.get("memory_bytes", 0.0) for trial in before}
        values = {number: [value, costs[number]] if self._cheap else [value] for number, value in worth.items()}
        proposals.learn(before, values)
        first = [self._first[number] for number in numbers if number < len(self._first)]
        proposed = proposals.ask(generation, len(numbers), [one.params for one in first])
        tasks = []
        for place, (number, (trial, (config, how))) in enumerate(zip(numbers, proposed, strict=True)):
            if number in self.finished:
                continue
            self._params[number] = dict(trial.params)
            # What is known to be good is trained in full; then there is something to compare others of its family with.
            limits = {} if place < len(first) else self._cutoffs(before, config["family"])
            task = self._config(number, self._job(number, config), [self._seed, number], how, limits)
            start = first[place].weights if place < len(first) else None
            tasks.append(Task(number, {**task, "start": start}))
        return tasks

    def _cutoffs(self, before: Sequence[Finished], family: str) -> dict[int, float]:
        """One family's learning curves say little of another's."""
        histories = [trial.details["history"] for trial in before if trial.params["family"] == family]
        return cutoffs(histories, self._space.epochs)

    def _config(
        self, number: int, job: MemberJob, seed: Sequence[int], how: Mapping[str, Any],
        limits: Mapping[int, float] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        config = super()._config(number, job, seed, how, limits)
        if job.member.model == TREES:
            del config["training"]["batch_size"]
            config["training"]["threads"] = config["threads"]
        return config

    def _job(self, number: int, config: Mapping[str, Any]) -> MemberJob:
        name = f"{config['family']}-{number:03d}"
        grown = config["family"] in ("boosting", "forest")
        classes = len(self._data["train"].classes)
        member = {
            "model": TREES if grown else BUILD,
            "config": {"classes": classes} if grown else {**config, "classes": classes},
            "weights": f"members/{name}.safetensors",
            "inputs": list(self._data["train"].inputs),
            "resources": self._space.resources.model_dump(mode="json", exclude_defaults=True),
        }
        return self._spec({name: member}).job(name)

    def _spec(self, members: Mapping[str, Any]) -> EnsembleSpec:
        return bare_spec(self._space.name, members, self._data["train"])

    def _fill(self, name: str, trial: Finished) -> None:
        """Put what the worker computed into the store; rows it does not have are run here."""
        path = self._place(trial.number) / "predictions.safetensors"
        computed = load(path.read_bytes()) if path.is_file() else {}
        spec = self._spec({name: trial.details["member"]})
        for split in ("validation", "held-out"):
            with saving(self._folder):
                self.store.fill(spec, self._folder, self._data[split], split, run=_known_or_run(computed.get(split)))

    def _columns(self, trials: Mapping[str, Finished]) -> dict[str, Floats]:
        labels = self._data["validation"].labels
        found = {}
        for name in trials:
            probs = np.nan_to_num(self.store.read("validation", [name])[0], nan=1.0 / len(self._data["train"].classes))
            found[name] = true_class(probs[None], labels)[0]
        return found


def bare_spec(name: str, members: Mapping[str, Any], data: Labelled) -> EnsembleSpec:
    """The members under a plain mean, over the inputs of the data."""
    inputs = {
        key: {"datatype": datatype_of(array), "shape": list(array.shape[1:])} for key, array in data.inputs.items()
    }
    fusion = {"rule": "mean", "members": list(members)}
    return parse_spec(
        {"name": name, "inputs": inputs, "classes": list(data.classes), "members": dict(members), "fusion": fusion}
    )


def row_shape(data: Labelled) -> tuple[int, ...]:
    """Of one row as trained members read it: of several inputs all numbers side by side."""
    arrays = list(data.inputs.values())
    return arrays[0].shape[1:] if len(arrays) == 1 else (sum(int(np.prod(array.shape[1:])) for array in arrays),)


def _worth(others: Floats, column: Floats) -> float:
    weights = solve_log_loss(others)
    before = float(-np.log(weights @ others).mean())
    both = np.vstack([others, column])
    gain = before - float(-np.log(solve_log_loss(both) @ both).mean())
    if gain > 1e-6:
        return -gain
    mixed = (1 - _TRIED_SHARE) * (weights @ others) + _TRIED_SHARE * column
    return float(-np.log(mixed).mean()) - before


def _known_or_run(known: NDArray[np.float32] | None) -> Runner:
    def run(job: MemberJob, folder: Path, inputs: Inputs) -> NDArray[np.float32]:
        rows = len(next(iter(inputs.values())))
        return known if known is not None and len(known) == rows else run_in_process(job, folder, inputs)

    return run
