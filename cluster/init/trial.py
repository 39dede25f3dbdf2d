"""A model run on some rows, to see which inputs it reads and what it gives."""

# B rows, C classes

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.cluster.init.found_models import FoundModel
from quorate.deployments.errors import MemberLoadError
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.sources.loading import load_model
from quorate.deployments.spec.schema import MemberJob, MemberSpec, TensorSpec

_SUM_WITHIN = 1e-3
# By which of several outputs is looked for.
_OUTPUTS = ("values", "probabilities", "logits")


@dataclass(frozen=True)
class Trial:
    """What a model did.

    Attributes:
        inputs: that it reads, in this order.
        output: (B, ...) what it gave.
        classes: what it calls them; None where it does not say.
    """

    model: FoundModel
    inputs: tuple[str, ...]
    output: NDArray[Any]
    classes: tuple[str, ...] | None

    @property
    def width(self) -> int:
        """Numbers a row; 0 where rows are no vectors."""
        return self.output.shape[1] if self.output.ndim == 2 else int(self.output.ndim == 1)

    def kind(self, classes: int) -> str:
        """What the spec calls its output, of an ensemble with so many classes."""
        if not classes:
            return "values"
        values = self.output.astype(np.float64)
        shares = bool((values >= 0).all()) and bool(np.allclose(values.sum(axis=-1), 1, atol=_SUM_WITHIN))
        return "probabilities" if shares else "logits"


def run(model: FoundModel, folder: Path, inputs: Mapping[str, TensorSpec], rows: Mapping[str, NDArray[Any]]) -> Trial:
    """Run a model on all inputs, or else on one of them.

    Raises:
        MemberLoadError: it cannot be loaded, or runs on none.
    """
    first: MemberLoadError | None = None
    for names in _choices(tuple(inputs)):
        for output in _OUTPUTS:
            try:
                return _on(model, folder, names, output, inputs, rows)
            except MemberLoadError as error:
                first = first or error
                if "the model gives" not in error.found:  # of several outputs another may be the member's
                    break
    assert first is not None
    raise _by_option(first) from None


def _by_option(error: MemberLoadError) -> MemberLoadError:
    """There is no spec yet to write something in."""
    fix = re.sub(r"write config: (\{.*\})$", rf"say --config '{error.member}=\1'", error.fix)
    return MemberLoadError(error.member, error.found, fix, error.trace)


def _choices(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield names
    if len(names) > 1:
        yield from ((name,) for name in names)


def _on(
    model: FoundModel, folder: Path, names: tuple[str, ...], output: str, inputs: Mapping[str, TensorSpec],
    rows: Mapping[str, NDArray[Any]],
) -> Trial:  # fmt: skip
    member = MemberSpec.model_validate({**model.member(), "inputs": names, "output": output})
    read = {name: inputs[name] for name in names}
    predictor = Predictor(load_model(model.name, member, folder), MemberJob.model_validate(
        {"ensemble": "init", "name": model.name, "member": member, "inputs": read}
    ))  # fmt: skip
    values, status = predictor.run({name: rows[name] for name in names}, probabilities=False)
    if status.any():
        found = f"it fails on rows of {', '.join(names)}: {predictor.last_error}"
        raise MemberLoadError(
            model.name, found, "say what it reads: --input NAME:DATATYPE[SHAPE]", predictor.last_trace
        )
    return Trial(model, names, values, predictor.model.classes)
