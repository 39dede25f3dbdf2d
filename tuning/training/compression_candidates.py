"""Cheaper ensembles to try: members in fewer bits, members of one start averaged, one student instead of all."""

# M members

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import parse_spec
from quorate.fusion.errors import MergeError
from quorate.fusion.merging.batchnorm import reestimate_batchnorm
from quorate.fusion.merging.checkpoints import State
from quorate.fusion.merging.soups import greedy_soup
from quorate.tuning.architectures import BUILD
from quorate.tuning.architectures.networks import build
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.errors import ArchitectureError
from quorate.tuning.runs.unread import with_placed_members, without_the_unread
from quorate.tuning.training.checkpoint import save_weights
from quorate.tuning.training.training_run import Trained

_BATCH = 256


def in_format(spec: EnsembleSpec, numbers: str) -> EnsembleSpec:
    """The ensemble with every member that is trained here in another format; the others stay.

    Raises:
        ArchitectureError: no member is trained here.
    """
    data = spec.model_dump(mode="json", exclude_defaults=True)
    ours = [member for member in data["members"].values() if member["model"] == BUILD]
    if not ours:
        raise ArchitectureError("members", "none is of a family that is trained here", "export them in another format")
    for member in ours:
        member["config"] = {**member.get("config", {}), "format": numbers}
    return parse_spec(data)


def with_soups(spec: EnsembleSpec, folder: Path, training: Labelled, validation: Labelled, place: Path) -> EnsembleSpec:
    """The ensemble with all members of one configuration replaced by their greedy soup, called as the first of them.

    Args:
        folder: what the spec's paths start from.
        training: rows that BatchNorm statistics are estimated on.
        validation: rows that decide who goes into a soup.
        place: the folder for the soups' weights.

    Raises:
        MergeError: no two members can be averaged.
    """
    from safetensors.torch import load_file

    data = spec.model_dump(mode="json", exclude_defaults=True)
    merged = False
    for names in _alike(spec):
        config, (given,) = spec.members[names[0]].config, spec.members[names[0]].inputs
        states = {name: load_file(folder / str(spec.members[name].weights)) for name in names}
        score = _Score(config, training.inputs[given], validation.inputs[given], validation.labels)
        soup = score.network(greedy_soup(states, score).state)
        weights = (place / f"{names[0]}.safetensors").resolve()
        data["members"][names[0]] |= {"digest": save_weights(soup, weights), "weights": str(weights)}
        for name in names[1:]:
            _drop(data, name)
        merged = True
    if not merged:
        raise MergeError("members: no two share a configuration; a soup takes networks of one shape and one start")
    return parse_spec(with_placed_members(data))


class _Score:
    """Minus the validation log-loss of a state, higher is better."""

    def __init__(self, config: Mapping[str, Any], training: Any, images: Any, labels: Any):
        self.config, self.training = config, torch.from_numpy(training)
        self.images, self.labels = torch.from_numpy(images), torch.from_numpy(labels)

    def network(self, state: State) -> nn.Module:
        network = build(**self.config).eval()
        network.load_state_dict(dict(state))
        whole = len(self.training) - len(self.training) % _BATCH or len(self.training)
        reestimate_batchnorm(network, self.training[:whole].split(_BATCH))  # type: ignore[no-untyped-call]
        return network

    def __call__(self, state: State) -> float:
        network = self.network(state)
        with torch.inference_mode():
            logits: Tensor = torch.cat([network(part) for part in self.images.split(_BATCH)])  # type: ignore[no-untyped-call]
        return -float(nn.functional.cross_entropy(logits, self.labels))


def with_student(
    spec: EnsembleSpec, config: Mapping[str, Any], trained: Trained, place: Path, called: str = "student"
) -> EnsembleSpec:
    """An ensemble of the same name, inputs, classes and deadline that is one student.

    Args:
        config: the student's, whole.
        trained: the student; its weights are written to ``place``.
        called: the member that it is.
    """
    weights = (place / "student.safetensors").resolve()
    first = spec.members[spec.output_fusion.members[0]]
    member = {
        "model": BUILD,
        "config": dict(config),
        "weights": str(weights),
        "digest": save_weights(trained.model, weights),
        "inputs": list(first.inputs),
        "resources": first.resources.model_dump(mode="json"),
        "replicas": first.replicas.model_dump(mode="json"),
        "max_batch_size": first.max_batch_size,
    }
    data = spec.model_dump(mode="json", exclude_defaults=True)
    data["members"] = {called: member}
    for several in ("fusions", "output"):
        data.pop(several, None)
    data["fusion"] = {"rule": "mean", "members": [called], "deadline_s": spec.output_fusion.deadline_s}
    return parse_spec(without_the_unread(data, ["fused"]))


def _alike(spec: EnsembleSpec) -> list[list[str]]:
    """Members of the fusion that share model, configuration, inputs and classes, where there are two or more."""
    groups: dict[str, list[str]] = {}
    for name in spec.output_fusion.members:
        member = spec.members[name]
        if member.model == BUILD and member.weights and len(member.inputs) == 1:
            key = json.dumps([member.config, member.inputs, member.classes, member.output], sort_keys=True)
            groups.setdefault(key, []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _drop(data: dict[str, Any], name: str) -> None:
    del data["members"][name]
    for fusion in [data["fusion"]] if "fusion" in data else data["fusions"].values():
        fusion["members"] = [member for member in fusion["members"] if member != name]
        fusion.pop("required", None)
        fusion["quorum"] = min(fusion.get("quorum", 1), len(fusion["members"]))
        for weighted in ("weights", "options"):
            fusion.pop(weighted, None)
        fusion["rule"] = "mean"  # the weights are solved anew
