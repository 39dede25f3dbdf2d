"""Which nodes of a spec's graph are trained, and which have to be run with them at every step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.model_formats import FACTORY, format_of
from quorate.fusion.registry import RULES
from quorate.tuning.errors import TuningError

HEADS, ALL = "heads", "all"


@dataclass(frozen=True)
class TrainedPart:
    """The part of the graph that changes, or reads what changes.

    Attributes:
        trained: members and inner fusions whose parameters are trained.
        inside: those, and the members and inner fusions that are run anew at every step, sources first.
        outside: members that are run once, before; what is inside, or the answer, reads them.
        rule: whether the answer's rule is learned, and fitted when the rest is.
    """

    trained: tuple[str, ...]
    inside: tuple[str, ...]
    outside: tuple[str, ...]
    rule: bool


def trained_part(
    spec: EnsembleSpec, what: str | Sequence[str] = HEADS, is_network: Callable[[str], bool] = lambda member: True
) -> TrainedPart:
    """Find it.

    Args:
        what: ``heads``: inner fusions over features and members that read other members or fusions; ``all``: every
            member that can be trained, too; or the names of members and fusions. A learned rule of the answer is
            fitted unless others are named.
        is_network: whether a member's factory makes a network; ``all`` leaves out those that make something else.

    Raises:
        TuningError: nothing can be trained, a name that is none, or a member in between that is no network.
    """
    names = _asked_for(spec, what, is_network)
    learned, output = RULES[spec.output_fusion.rule].learned, spec.output_name
    rule = learned and (isinstance(what, str) or output in names)
    trained = tuple(name for name in names if name != output)
    if not trained and not rule:
        fix = "give what=all, or a spec with a feature fusion, a head or a learned rule"
        raise TuningError("what", f"'{what}' names nothing that is trained", fix)
    order = _in_order(spec)
    inside = _inside(spec, order, trained)
    for name in inside:
        if name in spec.members and format_of(spec.members[name].model) is not FACTORY:
            found = f"{spec.members[name].model} is no factory of a network"
            raise TuningError(f"members.{name}", found, "what is trained is read by networks alone: give its factory")
    read = {source for name in inside for source in spec.sources(name)} | set(spec.output_fusion.members)
    outside = tuple(name for name in order if name in read and name not in inside)
    return TrainedPart(trained, tuple(name for name in order if name in inside), outside, rule)


def _asked_for(spec: EnsembleSpec, what: str | Sequence[str], is_network: Callable[[str], bool]) -> tuple[str, ...]:
    inner = [name for name in spec.all_fusions if name != spec.output_name]
    if not isinstance(what, str):
        known = {*spec.members, *spec.all_fusions}
        unknown = sorted(set(what) - known)
        if unknown:
            raise TuningError("what", f"{', '.join(unknown)}", f"name members or fusions: {', '.join(sorted(known))}")
        return tuple(dict.fromkeys(what))
    if what not in (HEADS, ALL):
        raise TuningError("what", f"'{what}'", f"give {HEADS}, {ALL}, or a list of names")
    fusions = [name for name in inner if RULES[spec.all_fusions[name].rule].reads == ("features",)]
    heads = [name for name, member in spec.members.items() if not set(member.inputs) <= set(spec.inputs)]
    if what == HEADS:
        return (*fusions, *heads)
    rest = (name for name in spec.members if name not in heads and _reads_numbers(spec, name))
    return (*fusions, *heads, *(name for name in rest if is_network(name)))


def _reads_numbers(spec: EnsembleSpec, name: str) -> bool:
    """Whether its factory may make a network that is trained: one that reads text turns it into numbers itself."""
    member = spec.members[name]
    text = any(spec.inputs[source].datatype == "BYTES" for source in member.inputs if source in spec.inputs)
    return format_of(member.model) is FACTORY and not text


def _inside(spec: EnsembleSpec, order: Sequence[str], trained: Collection[str]) -> set[str]:
    """What reads something that is trained; and fusions on the way there, since who is present changes what they give,
    with all that reads them.
    """
    inside = set(trained)
    wanted = frozenset[str]().union(*(spec.upstream(name) for name in trained))
    for name in order:
        reads_inside = any(source in inside for source in spec.sources(name))
        if reads_inside or (name in wanted and name in spec.all_fusions):
            inside.add(name)
    return inside


def _in_order(spec: EnsembleSpec) -> tuple[str, ...]:
    """Members and inner fusions, sources first."""
    nodes = [*spec.members, *(name for name in spec.all_fusions if name != spec.output_name)]
    edges = {name: [source for source in spec.sources(name) if source not in spec.inputs] for name in nodes}
    return tuple(TopologicalSorter(edges).static_order())
