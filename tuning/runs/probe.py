"""A run's probe set: a few held-out rows and what the run's ensemble answers to them, kept beside its spec.

Whoever deploys the spec can see that what is served is what was tuned.
"""

# B rows, C classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quorate.deployments.atomic_files import writing_whole
from quorate.deployments.errors import RequestError
from quorate.deployments.rows.uneven import like_first, runs
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.wire.arrow_tensors import read_column, write_column
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.errors import PromotionError

PROBE_ROWS = 32
# Stored predictions and served answers differ by rounding: other batch sizes, another device, float16 in the store, and
# much more where a member computes in 8 bits of mantissa.
TOLERANCE = 2e-3
TOLERANCE_IN_FEW_BITS = 2e-2
_TOLERANCE = b"tolerance"
_FILE = "probe.arrow"
_EXPECTED = "expected answer"  # no input can be called so: names hold no blanks


@dataclass(frozen=True)
class Probe:
    """Rows and their answers.

    Attributes:
        inputs: (B, *shape) by request input.
        answers: (B, C) float32 by output, fused from the run's stored predictions.
        tolerance: how far a served number may be from it.
    """

    inputs: Mapping[str, NDArray[Any]]
    answers: Mapping[str, NDArray[np.float32]]
    tolerance: float = TOLERANCE

    @property
    def expected(self) -> NDArray[np.float32]:
        """(B, C) of the only output, or the first."""
        return next(iter(self.answers.values()))


def save_probe(
    folder: Path,
    spec: EnsembleSpec,
    data: Labelled,
    rows: NDArray[np.intp],
    expected: NDArray[Any],
    others: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Keep the first rows.

    Args:
        folder: where the spec is.
        spec: its inputs are kept, others left out.
        data: what the run judged on.
        rows: (N,) numbers of the rows that every member answered.
        expected: (N, C) the run's answers to these.
        others: the same of the alternatives beside it, by name.
    """
    answers = {_EXPECTED: expected, **{f"{_EXPECTED} {name}": found for name, found in (others or {}).items()}}
    _save(folder, spec, data.rows(rows[:PROBE_ROWS]).inputs, answers)


def save_output_probes(
    folder: Path,
    spec: EnsembleSpec,
    inputs: Mapping[str, NDArray[Any]],
    recommended: Mapping[str, NDArray[Any]],
    others: Mapping[str, Mapping[str, NDArray[Any]]],
) -> None:
    """Keep the first rows of an ensemble of several outputs.

    Args:
        folder: where the spec is.
        spec: its inputs are kept, others left out.
        inputs: (N, *shape) of rows that every member answered.
        recommended: (N, C) by output, the run's answers to these.
        others: by output, the same of every alternative.
    """
    answers = {f"{_EXPECTED} {output}": found for output, found in recommended.items()}
    for output, named in others.items():
        answers |= {f"{_EXPECTED} {output}={name}": found for name, found in named.items()}
    _save(folder, spec, {name: inputs[name][:PROBE_ROWS] for name in spec.inputs}, answers)


def _save(
    folder: Path, spec: EnsembleSpec, inputs: Mapping[str, NDArray[Any]], answers: Mapping[str, NDArray[Any]]
) -> None:
    kept = like_first({name: inputs[name] for name in spec.inputs})  # it is one request
    (rows,) = runs({name: inputs[name][kept] for name in spec.inputs})
    columns = {name: write_column(np.ascontiguousarray(array)) for name, array in rows.items()}
    for name, found in answers.items():
        columns[name] = write_column(np.asarray(found[:PROBE_ROWS][kept], dtype=np.float32))
    table = pa.table(columns).replace_schema_metadata({_TOLERANCE: repr(_tolerance(spec)).encode()})
    with (
        writing_whole(folder / _FILE) as fresh,
        pa.OSFile(str(fresh), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)


def _tolerance(spec: EnsembleSpec) -> float:
    few_bits = any(member.config.get("format", "fp32") != "fp32" for member in spec.members.values())
    return TOLERANCE_IN_FEW_BITS if few_bits else TOLERANCE


def load_probe(folder: Path, spec: EnsembleSpec, alternative: str | Mapping[str, str] | None = None) -> Probe:
    """Read what was kept.

    Args:
        folder, spec: of the run.
        alternative: the name of one of the others, by output where there are several; the run's own when None.

    Raises:
        PromotionError: there is none, or it is not of this spec.
    """
    fix = "promote a run that quorate tune made, or deploy the spec unverified"
    answers = _columns(spec, alternative)
    try:
        with pa.OSFile(str(folder / _FILE), "rb") as source:
            table = pa.ipc.open_file(source).read_all().combine_chunks()
        columns = {name: table.column(name).chunk(0) for name in (*spec.inputs, *answers.values())}
        inputs = {n: read_column(n, columns[n], one.datatype, one.shape) for n, one in spec.inputs.items()}
        expected = {output: read_column(name, columns[name], "FP32", (-1,)) for output, name in answers.items()}
        tolerance = float(table.schema.metadata[_TOLERANCE])
    except (OSError, pa.ArrowException, KeyError, IndexError, TypeError, ValueError, RequestError) as error:
        raise PromotionError(f"{folder / _FILE}", f"cannot be read ({error})", fix) from None
    return Probe(inputs, expected, tolerance)


def probe_inputs(folder: Path, spec: EnsembleSpec) -> dict[str, NDArray[Any]]:
    """The rows of a probe, (B, *shape) by request input; none where there is none that can be read."""
    try:
        with pa.OSFile(str(folder / _FILE), "rb") as source:
            table = pa.ipc.open_file(source).read_all().combine_chunks()
        return {n: read_column(n, table.column(n).chunk(0), one.datatype, one.shape) for n, one in spec.inputs.items()}
    except (OSError, pa.ArrowException, KeyError, IndexError, ValueError, RequestError):
        return {}


def _columns(spec: EnsembleSpec, alternative: str | Mapping[str, str] | None) -> dict[str, str]:
    """The column of the answers of each output."""
    if isinstance(alternative, str):
        return {spec.output_name: f"{_EXPECTED} {alternative}"}
    if not spec.outputs:
        return {spec.output_name: _EXPECTED}
    picked = {output: f"{output}={name}" for output, name in (alternative or {}).items()}
    return {output: f"{_EXPECTED} {picked.get(output, output)}" for output in spec.outputs}
