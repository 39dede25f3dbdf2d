"""One fusion of the graph, its rule built: members' replies in, fused rows out."""

# M members, B batch, T tokens, C classes, F_m features of member m

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.deployments.engine.fusions.conformal import Conformal, build_conformal
from quorate.deployments.engine.fusions.postprocessing import Postprocessing, build_postprocessing
from quorate.deployments.engine.fusions.presence import DEADLINE, OK, Mask, States, enough, refuse_shape
from quorate.deployments.engine.state_file import load_state
from quorate.deployments.errors import SpecError
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.deployments.transport.row_state import RowState
from quorate.fusion.base import Fused, FusedArrays, Rule
from quorate.fusion.errors import FusionError
from quorate.fusion.features.base import FeatureRule
from quorate.fusion.learned.gate import Gate
from quorate.fusion.loading import build_rule, load_feature_rule
from quorate.fusion.registry import RULES
from quorate.fusion.sequences.token_fusion import fuse_tokens

Array = NDArray[Any]

# Fused at once: what a rule computes in between stays in the cache. The mean of 1,024 rows of 4,096 numbers from one
# member took 76 ms at once and 22 ms in blocks of this size (one core of an x86-64 server, 2026-11-23).
BLOCK_ELEMENTS = 1 << 18


@dataclass(frozen=True)
class Fuser:
    """A rule over members, in the order of ``asked``.

    Attributes:
        name: the fusion's name in the spec.
        fusion: its part of the spec.
        rule: over ``asked``.
        asked: the members that count; one of weight 0 is not asked at all.
        around: calibrations before and after the rule, and the decision.
        conformal: how sure the answer is, where the spec asks for it.
        tokens: classes are of each token of a row: members give (B, T, C), and so does the fusion.
        lengths: the request input that says how many tokens each row has; all T where there is none.
        width: C where the spec says it, as it does of quantiles; otherwise it is what most members give.
    """

    name: str
    fusion: FusionSpec
    rule: Rule | FeatureRule
    asked: tuple[str, ...]
    around: Postprocessing
    conformal: Conformal | None = None
    tokens: bool = False
    lengths: str | None = None
    width: int | None = None

    @cached_property
    def reads_inputs(self) -> bool:
        """Whether it reads the request's inputs, too."""
        return isinstance(self.rule, Gate) or self.lengths is not None

    @property
    def reads_features(self) -> bool:
        """Whether it reads members' outputs side by side, as one layer."""
        return isinstance(self.rule, FeatureRule)

    @cached_property
    def ranks_rows(self) -> bool:
        """Whether the rows of a request are one list: they are fused together, and with no others."""
        return RULES[self.fusion.rule].lists

    def gather(self, replies: Mapping[str, MemberReply], rows: int) -> tuple[NDArray[np.float32] | None, States]:
        """All members' outputs, absent rows zero, and their states (M, B), in the rule's order.

        Outputs are (M, B, C), of tokens (M, B, T, C), of values (M, B, ...) in the members' own shape, or, for a rule
        that reads features, (1, B, sum of F_m), side by side. None when nobody gave anything that can be used.
        """
        states = np.empty((len(self.asked), rows), dtype=np.uint8)
        usable: list[tuple[int, Array]] = []
        for i, name in enumerate(self.asked):
            reply = replies.get(name)
            if reply is None:
                states[i] = DEADLINE
            elif reply.status is None:
                states[i] = RowState.of(reply.reason)
            else:
                states[i] = reply.status
                if reply.values is not None:
                    usable.append((i, reply.values))
        if self._feature_rule is not None:
            return self._join_features(self._feature_rule, usable, states), states
        return self._stack(usable, states), states

    @cached_property
    def _feature_rule(self) -> FeatureRule | None:
        return self.rule if isinstance(self.rule, FeatureRule) else None

    def _stack(self, usable: Sequence[tuple[int, Array]], states: States) -> NDArray[np.float32] | None:
        """(M, B, ...) as most members gave or the spec says; others' rows count as of a wrong shape."""
        fewest, most = (3, 3) if self.tokens else (2, math.inf)
        shapes = [v.shape[1:] if v.size and fewest <= v.ndim <= most else () for _, v in usable]
        shape = max(shapes, default=())
        if not shape:
            for i, _ in usable:
                refuse_shape(states[i])
            return None
        if self.width is not None:
            shape = (self.width,)
        elif len(set(shapes)) > 1:
            known = [one for one in shapes if one]
            shape = max(set(known), key=lambda one: (known.count(one), one))
        outputs = np.zeros((*states.shape, *shape), dtype=np.float32)
        for (i, values), found in zip(usable, shapes, strict=True):
            if found == shape:
                outputs[i] = values
            else:
                refuse_shape(states[i])
        return outputs

    def _join_features(
        self, rule: FeatureRule, usable: Sequence[tuple[int, Array]], states: States
    ) -> NDArray[np.float32] | None:
        rows = states.shape[1]
        outputs = np.zeros((1, rows, sum(rule.widths.values())), dtype=np.float32)
        columns = list(self._columns(rule).items())
        for i, values in usable:
            name, at = columns[i]
            if values.shape == (rows, rule.widths[name]):
                outputs[0, :, at] = values
            else:
                refuse_shape(states[i])
        return outputs if (states == OK).any() else None

    def _columns(self, rule: FeatureRule) -> dict[str, slice]:
        columns, at = {}, 0
        for name in self.asked:
            columns[name] = slice(at, at + rule.widths[name])
            at += rule.widths[name]
        return columns

    def fuse(self, outputs: Array, present: Array | None, inputs: Mapping[str, Array]) -> FusedArrays:
        """Fuse what ``gather`` gave, or the same rows of all of it.

        Args:
            present: (M, B) bool; None when everybody is in every row.
            inputs: the request inputs of these rows, for a gate or the lengths of rows.

        Raises:
            QuorumError: a row that the rule cannot decide.
        """
        if outputs.ndim > 3 and not self.tokens:  # rules work number by number
            flat = self.fuse(outputs.reshape(*outputs.shape[:2], -1), present, inputs)
            flat.values = flat.values.reshape(outputs.shape[1:])
            return flat
        if outputs.size <= BLOCK_ELEMENTS or self.ranks_rows:
            return self._fuse_block(outputs, present, inputs)
        layers, rows = outputs.shape[:2]
        step = max(1, BLOCK_ELEMENTS // (layers * max(math.prod(outputs.shape[2:]), 1)))
        blocks = [slice(at, at + step) for at in range(0, rows, step)]
        return _join(
            [
                self._fuse_block(
                    outputs[:, b],
                    None if present is None else present[:, b],
                    {name: array[b] for name, array in inputs.items()},
                )
                for b in blocks
            ]
        )

    def read(self, outputs: Array) -> torch.Tensor:
        """What ``gather`` gave as the rule reads it: (M, B, C), calibrated."""
        return self.around.members(torch.from_numpy(outputs))

    def _fuse_block(self, outputs: Array, present: Array | None, inputs: Mapping[str, Array]) -> FusedArrays:
        if self.tokens:
            return self._fuse_tokens(outputs, present, inputs)
        if self._plain is not None:
            return self._plain.fuse_arrays(outputs, present)
        return FusedArrays.of(self.around.fused(self._apply(outputs, present, inputs)))

    def _fuse_tokens(self, outputs: Array, present: Array | None, inputs: Mapping[str, Array]) -> FusedArrays:
        """Contributions and coverage are those of a row: of its tokens the mean, since the same members gave all.

        A row without tokens needs no member.
        """
        assert isinstance(self.rule, Rule)
        _, rows, length, _ = outputs.shape
        lengths = np.full(rows, length) if self.lengths is None else inputs[self.lengths].reshape(rows)
        padding = torch.from_numpy(np.arange(length) >= lengths[:, None]) if self.lengths is not None else None
        mask = None if present is None else torch.from_numpy(present)
        fused = self.around.fused(fuse_tokens(self.rule, self.read(outputs), mask, padding))
        values = fused.values if padding is None else fused.values.masked_fill(padding.unsqueeze(-1), 0.0)
        counts = np.maximum(lengths, 1)
        coverage = np.where(lengths > 0, fused.coverage.amax(dim=1).numpy(), 1)
        return FusedArrays(
            values.numpy(),
            (fused.contributions.sum(dim=2).numpy() / counts).astype(np.float32),
            coverage.astype(np.float32),
            None if fused.abstained is None else fused.abstained.any(dim=1).numpy(),
        )

    @cached_property
    def _plain(self) -> Rule | None:
        """The rule, where it reads nothing but members' outputs as they are and is all there is."""
        rule = self.rule if isinstance(self.rule, Rule) and not isinstance(self.rule, Gate) else None
        return rule if self.around == Postprocessing() else None

    def _apply(self, outputs: Array, present: Array | None, inputs: Mapping[str, Array]) -> Fused:
        mask = None if present is None else torch.from_numpy(present)
        if isinstance(self.rule, FeatureRule):
            features = torch.from_numpy(outputs)[0]
            by_name = {name: features[:, columns] for name, columns in self._columns(self.rule).items()}
            return self.rule.fuse(by_name, mask)
        if isinstance(self.rule, Gate):
            return self.rule.fuse(self.read(outputs), mask, gate_input(self.rule, inputs))
        return self.rule.fuse(self.read(outputs), mask)

    def fuse_where(self, enough: Array, outputs: Array, present: Array, inputs: Mapping[str, Array]) -> FusedArrays:
        """Fuse the rows that have a quorum, and leave zeros where nobody will look: a rule may refuse the others."""
        if enough.all():
            return self.fuse(outputs, present, inputs)
        part = self.fuse(
            np.ascontiguousarray(outputs[:, enough]),
            np.ascontiguousarray(present[:, enough]),
            {name: array[enough] for name, array in inputs.items()},
        )
        whole = FusedArrays(
            np.zeros((len(enough), *part.values.shape[1:]), dtype=np.float32),
            np.zeros((len(part.contributions), len(enough)), dtype=np.float32),
            np.zeros(len(enough), dtype=np.float32),
            None if part.abstained is None else np.zeros(len(enough), dtype=np.bool_),
        )
        whole.values[enough], whole.contributions[:, enough] = part.values, part.contributions
        whole.coverage[enough] = part.coverage
        if whole.abstained is not None:
            whole.abstained[enough] = part.abstained
        return whole

    def enough(self, states: States) -> Mask:
        """(B,) whether quorum and required members hold in each row, by the (M, B) states of its members."""
        return enough(states, self.fusion.quorum, self._required)

    @cached_property
    def _required(self) -> tuple[int, ...]:
        return tuple(self.asked.index(name) for name in self.fusion.required if name in self.asked)


def _join(parts: Sequence[FusedArrays]) -> FusedArrays:
    """Blocks of rows, one after the other."""
    abstained = [part.abstained for part in parts if part.abstained is not None]
    return FusedArrays(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.contributions for part in parts], axis=1),
        np.concatenate([part.coverage for part in parts]),
        np.concatenate(abstained) if abstained else None,
    )


def gate_input(gate: Gate, inputs: Mapping[str, Array]) -> torch.Tensor:
    """(B, D) what a gate reads of the request."""
    array = inputs[gate.input_name]
    return torch.from_numpy(np.array(array.reshape(len(array), -1), dtype=np.float32))


def build_fuser(
    name: str,
    fusion: FusionSpec,
    folder: Path,
    classes: tuple[str, ...] | None = None,
    tokens: bool = False,
    lengths: str | None = None,
    width: int | None = None,
) -> Fuser:
    """Build the rule that a fusion names.

    Args:
        name: the fusion's.
        folder: where its files are.
        classes: the ensemble's.
        tokens, lengths, width: as of ``Fuser``.

    Raises:
        SpecError: it cannot be built from these options or this state.
    """
    asked, field = asked_members(fusion), name if name != "fused" else "fusion"
    conformal = None
    if fusion.conformal is not None:
        conformal = build_conformal(fusion.conformal, fusion.rule, asked, classes or (), field)
    try:
        rule = _rule(fusion, asked, folder, classes or ())
        around = build_postprocessing(fusion, asked, folder, classes or ())
    except FusionError as error:
        raise SpecError(field, str(error), "correct the fusion's options") from None
    return Fuser(name, fusion, rule, asked, around, conformal, tokens, lengths, width)


def asked_members(fusion: FusionSpec) -> tuple[str, ...]:
    """The members that a rule is built over, those of weight 0 left out.

    In the order of their names: sums over members run in that order, so that the order in which a spec lists them
    changes no bit of an answer. Rules over features add by name themselves, and without a layout their columns stand
    as the spec lists the members.
    """
    entry = RULES[fusion.rule]
    if entry.reads == ("features",):
        return fusion.members
    # A cascade's stages hold every member.
    everyone = fusion.weights is None or entry.steered
    return tuple(sorted(n for n in fusion.members if everyone or (fusion.weights or {})[n] > 0))


def _rule(fusion: FusionSpec, members: tuple[str, ...], folder: Path, classes: tuple[str, ...]) -> Rule | FeatureRule:
    """The rule a fusion names, over ``members`` in that order."""
    state = load_state(fusion.state, folder) if fusion.state else None
    weights = None if fusion.weights is None else {name: fusion.weights[name] for name in members}
    if RULES[fusion.rule].reads == ("features",):
        return load_feature_rule(fusion.rule).from_spec(members, weights, fusion.options, state)
    return build_rule(fusion.rule, members, weights, fusion.options, state, classes)
