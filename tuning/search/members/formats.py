"""Members in fewer bits as candidates of their own: run again, stored again, weighed again."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from quorate.deployments.spec.schema import MemberSpec
from quorate.tuning.architectures import BUILD
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.predictions.run_member import Runner
from quorate.tuning.predictions.store import PredictionStore
from quorate.tuning.search.journal import saving
from quorate.tuning.search.members.member_search import bare_spec
from quorate.tuning.search.members.training_search import Say
from quorate.tuning.search.space import SearchSpace


def missing_library(numbers: str) -> str:
    """What has to be installed for a format; empty when nothing does."""
    needed = numbers == "int8" and find_spec("torchao") is None
    return "it needs torchao, pip install 'quorate[int8]'" if needed else ""


def add_formats(
    folder: Path,
    space: SearchSpace,
    rows: Mapping[str, Labelled],
    members: Mapping[str, MemberSpec],
    run: Runner,
    say: Say,
) -> tuple[dict[str, MemberSpec], dict[str, dict[str, str]]]:
    """Run members in every format of the space; those that are not networks of ours stay as they are.

    Args:
        folder: the run's, with its store.
        members: candidates by name.
        run: runs a member over rows.
        say: told which formats are left out.

    Returns:
        The members that came about, by name, and for each format the name of each member in it.
    """
    store = PredictionStore(folder / "predictions")
    found: dict[str, MemberSpec] = {}
    formats: dict[str, dict[str, str]] = {"fp32": {}} if "fp32" in space.formats else {}
    for numbers in (numbers for numbers in space.formats if numbers != "fp32"):
        if missing := missing_library(numbers):
            say(f"{numbers} is left out: {missing}")
            continue
        ours = {name: member for name, member in members.items() if member.model == BUILD}
        formats[numbers] = {name: f"{name}-{numbers}" for name in ours}
        variants = {
            f"{name}-{numbers}": member.model_copy(update={"config": {**member.config, "format": numbers}})
            for name, member in ours.items()
        }
        for name, member in variants.items():
            alone = {name: member.model_dump(mode="json", exclude_defaults=True)}
            spec = bare_spec(space.name, alone, rows["validation"])
            for split in ("validation", "held-out"):
                with saving(folder):
                    store.fill(spec, folder, rows[split], split, run=run)
        found |= variants
    return found, formats or {"fp32": {}}


def member_bytes(folder: Path, member: MemberSpec) -> float:
    """What a member's parameters take in memory: of our own networks counted, else the size of its file."""
    path = folder / (member.weights or member.model)
    if member.config.get("format", "fp32") != "fp32" and member.model == BUILD:
        from safetensors.torch import load_file

        from quorate.tuning.architectures.networks import build
        from quorate.tuning.architectures.precision import parameter_bytes

        network = build(**member.config)
        network.load_state_dict(load_file(path))
        return float(parameter_bytes(network))
    return float(path.stat().st_size) if path.is_file() else 0.0
