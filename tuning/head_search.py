"""Members that read members, for chains and shared trunks: trained on what their sources say of the training rows."""

# N rows, C classes, F features

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load
from safetensors.torch import load_file, save

from quorate.deployments.models import load_model
from quorate.deployments.spec import MemberJob, MemberSpec
from quorate.deployments.spec_file import file_digest
from quorate.fusion.errors import SweepError
from quorate.tuning.architectures import build
from quorate.tuning.datasets import Labelled
from quorate.tuning.files import write_whole
from quorate.tuning.heads import trunk_state
from quorate.tuning.journal import Finished, Journal, resume_hint, saving
from quorate.tuning.member_search import Say, bare_spec
from quorate.tuning.search_space import SearchSpace
from quorate.tuning.structures import Menu
from quorate.tuning.trials import Task

_HEADS_PER_TRUNK, _CHAINS = 3, 2
ARCHITECTURES = "quorate.tuning.architectures:build"


class HeadSearch:
    """Trains a few heads for each source (``Generations``): nothing is proposed, so all run at once."""

    def __init__(
        self, folder: Path, space: SearchSpace, data: Mapping[str, Labelled], sources: Mapping[str, MemberSpec],
        seed: int, say: Say,
    ):  # fmt: skip
        """
        Args:
            sources: base members by name, the one with the lowest log-loss first.
            data: train, stopping, validation and held-out rows.
        """
        self._folder, self._space, self._data, self._seed, self._say = folder, space, data, seed, say
        (self._input,) = data["train"].inputs
        self.trunks: dict[str, MemberSpec] = {}
        self.chains: dict[str, str] = {}
        self.trunk_heads: dict[str, tuple[str, ...]] = {}
        self.outputs: dict[str, dict[str, NDArray[np.float32]]] = {}
        self._sources = dict(sources)
        self.plan = self._planned()
        self._journal = Journal(folder)
        found, damage = self._journal.read("heads")
        for sentence in damage:
            say(sentence)
        self.finished = {n: t for n, t in found.items() if self._whole(t) and self._same(n, t)}
        self._handed_out = False

    @property
    def members(self) -> dict[str, MemberSpec]:
        """Heads that were trained, by name."""
        trained = (self.finished[number] for number in sorted(self.finished))
        return {str(t.params["name"]): MemberSpec(**t.details["member"]) for t in trained if t.failure is None}

    def menu(self, menu: Menu) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
        """Chains and trunks whose heads could be trained."""
        known = self.members
        chains = {head: source for head, source in self.chains.items() if head in known and source in menu.members}
        trunks = {trunk: tuple(head for head in heads if head in known) for trunk, heads in self.trunk_heads.items()}
        return chains, {trunk: heads for trunk, heads in trunks.items() if len(heads) > 1}

    def predictions(self, split: str) -> dict[str, NDArray[np.float32]]:
        """(N, C) probabilities of each trained head."""
        good = [trial for trial in self.finished.values() if trial.failure is None]
        return {str(t.params["name"]): load(self._path(t.number).read_bytes())[split] for t in good}

    def inputs(self, split: str) -> dict[str, Labelled]:
        """What heads read: the request's input and the sources' outputs as they are served."""
        read = {name: outputs[split] for name, outputs in self.outputs.items()}
        part = self._data[split]
        return {split: Labelled({**part.inputs, **read}, part.labels, part.classes)}

    def next(self) -> Sequence[Task]:
        """See ``Generations``."""
        if self._handed_out:
            return []
        self._handed_out = True
        return [Task(n, self._config(n, plan)) for n, plan in enumerate(self.plan) if n not in self.finished]

    def done(self, number: int, outcome: Mapping[str, Any] | None) -> None:
        """See ``Generations``."""
        outcome = outcome or {"failure": "its worker died again and again", "said": []}
        if "storage" in outcome:
            raise SweepError(str(self._folder), f"cannot be written ({outcome['storage']})", resume_hint(self._folder))
        plan = self.plan[number]
        trial = Finished(number, plan, failure=outcome.get("failure"), details=outcome)
        if trial.failure:
            self._say(f"head {plan['name']} failed: {trial.failure}")
        self._journal.write("heads", trial)
        self.finished[number] = trial

    def _planned(self) -> list[dict[str, Any]]:
        """Chains over the best sources, and several heads over the best one's features."""
        plans: list[dict[str, Any]] = []
        names = list(self._sources)
        if "chain" in self._space.topologies:
            for name in names[:_CHAINS]:
                self.chains[f"{name}-link"] = name
                plans.append({"name": f"{name}-link", "reads": [self._input, name], "width": 64, "dropout": 0.1})
        if "shared_trunk" in self._space.topologies:
            trainable = [name for name in names if self._sources[name].model == ARCHITECTURES]
            for name in trainable[:1]:
                trunk = f"{name}-trunk"
                self.trunks[trunk] = self._make_trunk(trunk, self._sources[name])
                self.trunk_heads[trunk] = tuple(f"{trunk}-head{n}" for n in range(_HEADS_PER_TRUNK))
                for number, head in enumerate(self.trunk_heads[trunk]):
                    plans.append({"name": head, "reads": [trunk], "width": 32 * 2**number, "dropout": 0.1 * number})
        for plan in plans:
            for source in plan["reads"]:
                if source != self._input and source not in self.outputs:
                    self.outputs[source] = self._run({**self._sources, **self.trunks}[source], source)
        return plans

    def _make_trunk(self, name: str, member: MemberSpec) -> MemberSpec:
        network = build(**member.config)
        network.load_state_dict(load_file(self._folder / str(member.weights)))
        path = f"members/{name}.safetensors"
        with saving(self._folder):
            write_whole(self._folder / path, save({k: v.contiguous() for k, v in trunk_state(network).items()}))
        changed = {"model": "quorate.tuning.heads:trunk", "weights": path, "output": "features"}
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

    def _config(self, number: int, plan: Mapping[str, Any]) -> dict[str, Any]:
        widths = [self._width(source) for source in plan["reads"]]
        member = {
            "model": "quorate.tuning.heads:head",
            "config": {
                "features": sum(widths),
                "classes": len(self._data["train"].classes),
                "width": plan["width"],
                "depth": 1,
                "dropout": plan["dropout"],
            },
            "weights": f"members/{plan['name']}.safetensors",
            "inputs": list(plan["reads"]),
            "resources": self._space.resources.model_dump(mode="json", exclude_defaults=True),
        }
        seed = int(np.random.SeedSequence([self._seed, 1_000_000 + number]).generate_state(1)[0])
        training = {"epochs": self._space.epochs, "batch_size": self._space.batch_size, "seed": seed}
        return {
            "number": number,
            "phase": "heads",
            "folder": str(self._folder.resolve()),
            "job": self._job(str(plan["name"]), member).model_dump_json(),
            "training": {**training, "learning_rate": 3e-3},
            "cutoffs": {},
            "threads": max(1, int(self._space.resources.num_cpus)),
        }

    def _job(self, name: str, head: Mapping[str, Any]) -> MemberJob:
        """The head as its replicas would get it; what it reads of other members is no request input."""
        base = bare_spec(self._space.name, dict(list(self._sources.items())[:1]), self._data["train"])
        member = MemberSpec.model_validate(head)
        tensors = {key: tensor for key, tensor in base.inputs.items() if key in member.inputs}
        return MemberJob(ensemble=base.name, name=name, member=member, inputs=tensors, classes=base.classes)

    def _width(self, source: str) -> int:
        array = self._data["train"].inputs.get(source)
        return int(np.prod((self.outputs[source]["train"] if array is None else array).shape[1:]))

    def _whole(self, trial: Finished) -> bool:
        if trial.failure is not None:
            return True
        path = self._path(trial.number)
        member = MemberSpec(**trial.details["member"])
        weights = self._folder / str(member.weights)
        whole = path.is_file() and file_digest(path) == trial.details["predictions"]
        if whole and weights.is_file() and file_digest(weights) == member.digest:
            return True
        self._say(f"head {trial.params['name']}: its files are damaged: trained again")
        return False

    def _same(self, number: int, trial: Finished) -> bool:
        return number < len(self.plan) and dict(trial.params) == self.plan[number]

    def _path(self, number: int) -> Path:
        return self._folder / "trials" / "heads" / f"{number:05d}" / "predictions.safetensors"
