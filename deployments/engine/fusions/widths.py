"""Whether what a rule has learned is as wide as the ensemble's inputs and classes: asked when it is built.

Otherwise the first requests would find out, and every one of them would fail.
"""

# M members, B rows, C classes, D input features

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.fusions.fuser import Fuser, gate_input
from quorate.deployments.errors import RequestError, SpecError
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.fusion.base import Rule
from quorate.fusion.errors import FusionError
from quorate.fusion.learned.base import LearnedRule
from quorate.fusion.learned.gate import Gate


def check_widths(fuser: Fuser, spec: EnsembleSpec) -> None:
    """Raise SpecError for a gate that reads another number of inputs, or a rule trained on other classes.

    A size that the spec leaves free is known only when a request comes: see ``check_gates``.
    """
    rule, field = fuser.rule, spec.field_of(fuser.name)
    if isinstance(rule, Gate):
        shape = spec.inputs[rule.input_name].shape
        if -1 not in shape and math.prod(shape) != rule.num_inputs:
            found = f"the gate learned rows of {rule.num_inputs} numbers, but '{rule.input_name}' has {list(shape)}"
            raise SpecError(f"{field}.state", found, "train the gate on this input, or name the one it was trained on")
    if isinstance(rule, LearnedRule) and spec.classes:
        try:
            _fuse_uniform(fuser, rule, len(spec.classes))
        except (FusionError, RuntimeError) as error:
            found = f"rule '{fuser.fusion.rule}' cannot fuse {len(spec.classes)} classes ({error})"
            raise SpecError(f"{field}.state", found, "train it on this ensemble's classes") from None


def check_gates(gates: Sequence[Fuser], inputs: Mapping[str, NDArray[Any]]) -> None:
    """Raise RequestError where rows are not as wide as a gate learned."""
    for fuser in gates:
        gate = fuser.rule
        assert isinstance(gate, Gate)
        array = inputs[gate.input_name]
        if math.prod(array.shape[1:]) != gate.num_inputs:
            raise RequestError(
                f"rows of '{gate.input_name}' have shape {list(array.shape[1:])}, but the gate '{fuser.name}' reads "
                f"{gate.num_inputs} numbers a row; give as many"
            )


def check_tokens(names: Sequence[str], lengths: str | None, inputs: Mapping[str, NDArray[Any]]) -> None:
    """Raise RequestError for rows without tokens, with more of them than there are, or with several numbers of them.

    Args:
        names: of the inputs whose second dimension are tokens.
        lengths: the input that says how many each row has.
    """
    name, tokens = names[0], inputs[names[0]].shape[1]
    if not tokens:
        raise RequestError(f"rows of '{name}' have no tokens; give one at least, or leave the rows out")
    for other in names[1:]:
        if inputs[other].shape[1] != tokens:
            found = f"rows of '{other}' have {inputs[other].shape[1]} tokens but those of '{name}' {tokens}"
            raise RequestError(f"{found}; cut both alike")
    if lengths is None:
        return
    counts = inputs[lengths].reshape(-1).astype(np.int64)
    bad = np.flatnonzero((counts < 0) | (counts > tokens))
    if len(bad):
        found = f"'{lengths}' is {counts[bad[0]]} in row {bad[0]}, but rows of '{name}' have {tokens} tokens"
        raise RequestError(f"{found}; give how many of them are the row's")


def _fuse_uniform(fuser: Fuser, rule: Rule, classes: int) -> None:
    tokens = [1] if fuser.tokens else []
    outputs = np.full((len(fuser.asked), 1, *tokens, classes), 1 / classes, dtype=np.float32)
    inputs = {} if fuser.lengths is None else {fuser.lengths: np.ones(1, dtype=np.int64)}
    if isinstance(rule, Gate):
        inputs = {rule.input_name: np.zeros((1, rule.num_inputs), dtype=np.float32)}
        gate_input(rule, inputs)
    fuser.fuse(outputs, None, inputs)
