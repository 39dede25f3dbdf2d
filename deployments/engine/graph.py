"""The graph that a spec's ``inputs`` lists make: which member reads which, and which ones an answer needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from quorate.deployments.engine.fusions.fuser import Fuser, build_fuser
from quorate.deployments.engine.fusions.widths import check_gates, check_tokens, check_widths
from quorate.deployments.members.output_alignment import Alignment
from quorate.deployments.routing.terms import FAIR_SHARE, Terms
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.deployments.spec.schema import token_input
from quorate.deployments.transport.messages import Kind
from quorate.fusion.registry import RULES


@dataclass(frozen=True)
class Graph:
    """All that an answer of one revision needs, and nothing else.

    Attributes:
        spec: the ensemble.
        output: the fusion whose value is the answer.
        inner: fusions that members read, by name.
        members: members that are asked, sources before their readers.
    """

    spec: EnsembleSpec
    output: Fuser
    inner: Mapping[str, Fuser]
    members: tuple[str, ...]

    @cached_property
    def upstream(self) -> tuple[str, ...]:
        """Members that are asked but not fused into the answer themselves."""
        return tuple(name for name in self.members if name not in self.output.asked)

    @cached_property
    def flat(self) -> bool:
        """Whether all members read the request alone, and all are asked at once."""
        return not self.upstream and not self.inner and not self.selects(self.output) and not self._chained

    @cached_property
    def reads_inputs(self) -> bool:
        """Whether the answer's fusion reads the request's inputs, too, or whom it asks depends on them."""
        return self.selects(self.output) or self.output.reads_inputs

    @property
    def _chained(self) -> bool:
        return any(source in self.spec.members for name in self.members for source in self.spec.members[name].inputs)

    @staticmethod
    def selects(fuser: Fuser) -> bool:
        """Whether the rule decides which members are asked."""
        return RULES[fuser.fusion.rule].steered

    @cached_property
    def readers(self) -> Mapping[str, tuple[str, ...]]:
        """Members that read a member or an inner fusion."""
        sources = {name: self.spec.members[name].inputs for name in self.members}
        return {node: tuple(n for n in self.members if node in sources[n]) for node in (*self.members, *self.inner)}

    @cached_property
    def kinds(self) -> Mapping[str, Kind]:
        """What each member is asked for: its output as it is where a member reads it, else what a fusion reads."""
        return {name: Kind.CALL if self.readers[name] else Kind.CALL_PROBABILITIES for name in self.members}

    @cached_property
    def alignments(self) -> Mapping[str, Alignment]:
        """For members that both a member and a fusion read."""
        return {n: Alignment(self.spec.members[n], self.spec.classes) for n in self.members if self.readers[n]}

    def terms(self, member: str, expires: float) -> Terms:
        """On which a member is asked in a batch; one that an inner fusion reads has that fusion's."""
        return Terms(expires, *self._terms[member])

    @cached_property
    def _terms(self) -> Mapping[str, tuple[float, int | None]]:
        fusions = dict.fromkeys(self.members, self.output.fusion)
        for fuser in self.inner.values():
            fusions |= dict.fromkeys(fuser.asked, fuser.fusion)
        return {name: _terms(fusion) for name, fusion in fusions.items()}

    def check(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Raise RequestError where rows are not as a gate or a fusion of tokens reads them: sizes that the spec leaves
        free.
        """
        if self._gates:
            check_gates(self._gates, inputs)
        if self._tokens:
            check_tokens(self._tokens, self.spec.lengths, inputs)

    @cached_property
    def checks_rows(self) -> bool:
        """Whether ``check`` looks at anything."""
        return bool(self._gates or self._tokens)

    @cached_property
    def _tokens(self) -> tuple[str, ...]:
        """Inputs whose second dimension are tokens; none where rows are none of theirs."""
        first = {token_input(self.spec.members[name], self.spec.lengths) for name in self.members}
        return tuple(name for name in self.spec.inputs if name in first) if self.spec.of_tokens else ()

    @cached_property
    def _gates(self) -> tuple[Fuser, ...]:
        return tuple(fuser for fuser in (self.output, *self.inner.values()) if RULES[fuser.fusion.rule].reads_inputs)

    def answerable(self, ready: Callable[[str], bool]) -> bool:
        """Whether an answer can be had from the members that are ``ready``."""
        there: dict[str, bool] = dict.fromkeys(self.spec.inputs, True)

        def holds(fuser: Fuser) -> bool:
            count = sum(there[name] for name in fuser.asked)
            enough = count >= min(fuser.fusion.quorum, len(fuser.asked))
            return enough and all(there[name] for name in fuser.fusion.required if name in fuser.asked)

        for name in self.members:
            for source in self.spec.members[name].inputs:
                if source in self.inner and source not in there:
                    there[source] = holds(self.inner[source])
            there[name] = ready(name) and all(there[source] for source in self.spec.members[name].inputs)
        return holds(self.output)


def fuser_of(spec: EnsembleSpec, name: str, folder: Path) -> Fuser:
    """One of the spec's fusions, built.

    Raises:
        SpecError: its rule cannot be built from its options or its state.
    """
    spec = spec.view(name) if name in spec.outputs else spec
    quantiles = spec.quantiles if name == spec.output_name else None
    fusion = spec.all_fusions[name]
    return build_fuser(
        name, fusion, folder, fusion.classes or spec.classes, spec.of_tokens, spec.lengths,
        None if quantiles is None else len(quantiles),
    )  # fmt: skip


def build_graph(spec: EnsembleSpec, folder: Path) -> Graph:
    """Build the rules of all fusions that the answer needs.

    Raises:
        SpecError: a rule cannot be built from its options or its state, or does not fit the spec's inputs and classes.
    """
    output = fuser_of(spec, spec.output_name, folder)
    inner: dict[str, Fuser] = {}
    order: TopologicalSorter[str] = TopologicalSorter()
    seen: set[str] = set()

    def need(node: str) -> None:
        if node in seen or node in spec.inputs:
            return
        seen.add(node)
        if node in spec.members:
            sources: tuple[str, ...] = spec.members[node].inputs
        else:
            inner[node] = fuser_of(spec, node, folder)
            sources = inner[node].asked
        order.add(node, *(source for source in sources if source not in spec.inputs))
        for source in sources:
            need(source)

    for name in output.asked:
        need(name)
    for fuser in (output, *inner.values()):
        check_widths(fuser, spec)
    return Graph(spec, output, inner, tuple(name for name in order.static_order() if name in spec.members))


def _terms(fusion: FusionSpec) -> tuple[float, int | None]:
    """Patience and percentile of ``Terms``."""
    return FAIR_SHARE * fusion.deadline_s, int(fusion.hedge.after[1:]) if fusion.hedge else None
