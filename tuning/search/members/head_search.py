"""Members that read members, for chains and shared trunks: trained on what their sources say of the training rows."""

# N rows, C classes, F features

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load
from safetensors.torch import load_file, save

from quorate.deployments.atomic_files import write_whole
from quorate.deployments.sources.loading import load_model
from quorate.deployments.spec.digests import file_digest
from quorate.deployments.spec.schema import MemberJob, MemberSpec
from quorate.tuning.architectures import BUILD, HEAD, TRUNK
from quorate.tuning.architectures.heads import trunk_state
from quorate.tuning.architectures.networks import build
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.scoring import member_losses
from quorate.tuning.search.generations import Task
from quorate.tuning.search.journal import Finished, saving
from quorate.tuning.search.members.member_search import bare_spec
from quorate.tuning.search.members.training_search import Say, TrainingSearch
from quorate.tuning.search.sampler import Proposals
from quorate.tuning.search.space import SearchSpace, Topology, suggest_head
from quorate.tuning.search.structures.structure import Menu

# The best members that chains may read, and those whose features heads may share.
_CHAINED, _TRUNKS = 3, 1


class HeadSearch(TrainingSearch):
    """Proposes heads to train and takes in what they are worth (``Generations``).

    The two topologies take turns, so that each gets its share of the trials; within one, whom a head reads and its
    hyper-parameters are proposed from the log-loss that earlier heads reached on the validation rows.
    """

    phase = "heads"

    def __init__(
        self, folder: Path, space: SearchSpace, data: Mapping[str, Labelled], sources: Mapping[str, MemberSpec],
        *, seed: int, parallel: int, say: Say,
    ):  # fmt: skip
        """
        Args:
            folder, space, data, seed, parallel, say: as of ``TrainingSearch``.
            sources: base members by name, the one with the lowest log-loss first.
        """
        super().__init__(folder, space, data, seed=seed, parallel=parallel, say=say)
        self._inputs = list(data["train"].inputs)
        self._sources = dict(sources)
        self.trunks: dict[str, MemberSpec] = {}
        self._read = self._readable()
        self.outputs = {
            name: self._run({**self._sources, **self.trunks}[name], name)
            for name in dict.fromkeys(name for names in self._read.values() for name in names)
        }
        self.trials = space.head_trials if self._read else 0
        self.finished = {n: t for n, t in self._recorded().items() if self._same(t) and self._whole(t)}
        self._made_from: dict[int, dict[str, Any]] = {}  # of the heads in ``_params``: name, source and its digest

    @property
    def members(self) -> dict[str, MemberSpec]:
        """Heads that were trained, by name."""
        return {str(t.details["name"]): MemberSpec(**t.details["member"]) for t in self._good()}

    def members_reading(self, names: Collection[str]) -> dict[str, MemberSpec]:
        """Heads that read nothing else; what others read is no candidate any more."""
        return {name: member for name, member in self.members.items() if set(member.inputs) <= set(names)}

    def menu(self, menu: Menu) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
        """Chains, head -> whom it reads, and trunks with the heads that share them."""
        good = self._good()
        read = {str(t.details["name"]): str(t.details["reads"]) for t in good}
        chains = {head: source for head, source in read.items() if source in menu.members}
        trunks = {trunk: tuple(head for head, source in read.items() if source == trunk) for trunk in self.trunks}
        return chains, {trunk: heads for trunk, heads in trunks.items() if len(heads) > 1}

    def predictions(self, split: str) -> dict[str, NDArray[np.float32]]:
        """(N, C) probabilities of each trained head."""
        return {str(t.details["name"]): load(self._path(t.number).read_bytes())[split] for t in self._good()}

    def inputs(self, split: str) -> dict[str, Labelled]:
        """What heads read: the request's input and the sources' outputs as they are served."""
        read = {name: outputs[split] for name, outputs in self.outputs.items()}
        part = self._data[split]
        return {split: Labelled({**part.inputs, **read}, part.labels, part.classes)}

    def done(self, number: int, outcome: Mapping[str, Any] | None) -> None:
        """See ``Generations``."""
        outcome = self._checked(number, outcome)
        params, made_from = self._params[number], self._made_from[number]
        trial = Finished(number, params, failure=outcome.get("failure"), details={**outcome, **made_from})
        if trial.failure:
            self._say(f"head {made_from['name']} failed: {trial.failure}")
        else:
            probs = load(self._path(number).read_bytes())["validation"]
            probs = np.nan_to_num(probs, nan=1.0 / probs.shape[1])
            (loss,) = member_losses(probs[None], self._data["validation"].labels).tolist()
            trial = replace(trial, values={"log_loss": loss})
        self._journal.write("heads", trial)
        self.finished[number] = trial

    def _propose(self, generation: int, numbers: range, known: range) -> list[Task]:
        tasks = []
        for place, (topology, sources) in enumerate(self._read.items()):
            before = [self.finished[number] for number in known if self._topology(number) == topology]
            asked = [number for number in numbers if self._topology(number) == topology]
            define = partial(suggest_head, space=self._space, topology=topology, sources=sources)
            proposals = Proposals(define, 1, "tpe", self._seed + place, self._parallel)
            proposals.learn(before, {t.number: [t.values["log_loss"]] for t in before if t.failure is None})
            proposed = proposals.ask(generation, len(asked))
            for number, (trial, (source, config, how)) in zip(asked, proposed, strict=True):
                if number not in self.finished:
                    self._params[number] = dict(trial.params)
                    job = self._job(number, topology, source, config)
                    tasks.append(Task(number, self._config(number, job, [self._seed, 1_000_000 + number], how)))
        return sorted(tasks, key=lambda task: task.number)

    def _topology(self, number: int) -> Topology:
        return list(self._read)[number % len(self._read)]

    def _readable(self) -> dict[Topology, list[str]]:
        """Whom heads of each topology can read: the best members, and the features of the best that is ours."""
        found: dict[Topology, list[str]] = {}
        if "chain" in self._space.topologies:
            found["chain"] = list(self._sources)[:_CHAINED]
        ours = [name for name, member in self._sources.items() if member.model == BUILD]
        if "shared_trunk" in self._space.topologies and ours:
            self.trunks = {
                f"{name}-trunk": self._make_trunk(f"{name}-trunk", self._sources[name]) for name in ours[:_TRUNKS]
            }
            found["shared_trunk"] = list(self.trunks)
        return found

    def _make_trunk(self, name: str, member: MemberSpec) -> MemberSpec:
        network = build(**member.config)
        network.load_state_dict(load_file(self._folder / str(member.weights)))
        path = f"members/{name}.safetensors"
        with saving(self._folder):
            write_whole(self._folder / path, save({k: v.contiguous() for k, v in trunk_state(network).items()}))
        changed = {"model": TRUNK, "weights": path, "output": "features"}
        return member.model_copy(update={**changed, "digest": file_digest(self._folder / path)})

    def _run(self, member: MemberSpec, name: str) -> dict[str, NDArray[np.float32]]:
        """What a source returns for each row, as the members that read it get it."""
        model = load_model(name, member, self._folder, torch.device("cpu"))
        size = member.max_batch_size
        found = {}
        for split, part in self._data.items():
            parts = [
                model.predict({key: array[at : at + size] for key, array in part.inputs.items()})
                for at in range(0, len(part), size)
            ]
            found[split] = np.concatenate(parts).astype(np.float32)
        return found

    def _job(self, number: int, topology: Topology, source: str, config: Mapping[str, Any]) -> MemberJob:
        """The head as its replicas would get it; what it reads of other members is no request input."""
        reads = [*self._inputs, source] if topology == "chain" else [source]
        name = f"{source}-{'link' if topology == 'chain' else 'head'}-{number:02d}"
        self._made_from[number] = {"name": name, "reads": source, "source": self._digest(source)}
        features = sum(self._width(read) for read in reads)
        member = MemberSpec.model_validate(
            {
                "model": HEAD,
                "config": {"features": features, "classes": len(self._data["train"].classes), **config},
                "weights": f"members/{name}.safetensors",
                "inputs": reads,
                "resources": self._space.resources,
            }
        )
        base = bare_spec(self._space.name, dict(list(self._sources.items())[:1]), self._data["train"])
        tensors = {key: tensor for key, tensor in base.inputs.items() if key in reads}
        return MemberJob(ensemble=base.name, name=name, member=member, inputs=tensors, classes=base.classes)

    def _width(self, source: str) -> int:
        array = self._data["train"].inputs.get(source)
        return int(np.prod((self.outputs[source]["train"] if array is None else array).shape[1:]))

    def _whole(self, trial: Finished) -> bool:
        if trial.failure is not None:
            return True
        path, damage = self._path(trial.number), self._damage(trial)
        if damage is None and not (path.is_file() and file_digest(path) == trial.details["predictions"]):
            damage = f"{path.name} is missing or has other bytes than were written"
        if damage is not None:
            self._say(f"head {trial.details['name']}: {damage}: trained again")
        return damage is None

    def _same(self, trial: Finished) -> bool:
        """Whether a recorded head reads a source that is still there, with the same weights."""
        source = str(trial.details.get("reads"))
        return source in self.outputs and trial.details.get("source") == self._digest(source)

    def _digest(self, source: str) -> str | None:
        return {**self._sources, **self.trunks}[source].digest

    def _path(self, number: int) -> Path:
        return self._place(number) / "predictions.safetensors"
