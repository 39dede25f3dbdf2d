"""Answers as Arrow columns: a row for each row that was answered.

``id`` and ``row`` name it, ``time`` says when it was answered, ``call`` with whom: rows of one call of one replica were
fused together, in the file's order. ``output/MEMBER`` is what a member gave (of members that others read what these
were given), ``state/MEMBER`` whether it did, or why not; ``fused`` what was answered, ``coverage`` from how much
weight, ``abstained`` whether the rule declined; ``input/NAME`` what was asked. Of tokens lists are as long as the row,
``tokens`` says how many those are. The schema's metadata says the rest: ``MetaData``.
"""

# M layers, N nodes, R rows, C classes, T tokens

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quorate.deployments.errors import RequestError
from quorate.deployments.learning.blocks import Block
from quorate.deployments.transport.row_state import RowState
from quorate.deployments.wire.arrow_tensors import write_column

Array = NDArray[Any]
KEY = b"quorate"
# Of the format; what only adds to it is no other.
VERSION = 1
# Where the rule reads features, side by side as it reads them.
FEATURES = "features"
_STATES = pa.array([state.reason for state in RowState])


@dataclass(frozen=True)
class AnswersMetadata:
    """What holds of all rows of a file.

    Attributes:
        version: of this format.
        members: those that were fused, in the rule's order, ``layers`` their columns (one of features), and
            ``upstream`` those that other members read.
        classes: of the output; none where it has none.
        shape: of what a layer gave of a row; of tokens its first number is -1.
        fused: of what was fused, likewise.
        exact: whether members' outputs are as they came; else they are float16.
        several: whether the ensemble has several outputs, of which this is one.
        quantiles: the levels that are predicted, of that task.
        inputs: of the requests, where they are kept.
    """

    ensemble: str
    revision: str
    output: str
    task: str
    members: tuple[str, ...]
    layers: tuple[str, ...]
    upstream: tuple[str, ...]
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    fused: tuple[int, ...]
    exact: bool
    several: bool = False
    quantiles: tuple[float, ...] = ()
    inputs: tuple[str, ...] = ()
    version: int = VERSION

    def to_schema(self) -> dict[bytes, bytes]:
        """As a schema's metadata."""
        return {KEY: json.dumps(asdict(self)).encode()}

    @classmethod
    def of_schema(cls, schema: pa.Schema) -> AnswersMetadata | None:
        """What ``to_schema`` gave, also that of a later version where it has more; None of another's file.

        Raises:
            RequestError: what it has means something else in a later version.
        """
        text = (schema.metadata or {}).get(KEY)
        if text is None:
            return None
        found: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(text).items()}
        if found["version"] > VERSION:
            raise RequestError(f"the record has format {found['version']}, this Quorate reads {VERSION}; upgrade it")
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in found.items() if name in known})

    @property
    def of_tokens(self) -> bool:
        return self.shape[:1] == (-1,)


def metadata_of(block: Block, ensemble: str, exact: bool) -> AnswersMetadata:
    """What a file says of a block's rows."""
    revision, kind = block.revision, block.kind
    spec, asked, tokens = revision.graph.spec, revision.asked, revision.spec.of_tokens
    layers = asked if kind.layers == len(asked) else (FEATURES,)
    free = (-1,) if tokens else ()
    return AnswersMetadata(
        ensemble, revision.name, kind.output, spec.inferred_task, asked, layers, revision.graph.upstream,
        spec.classes or (), (*free, *kind.shape[len(free) :]), (*free, *kind.fused[len(free) :]), exact,
        revision.whole is not None, spec.quantiles or (),
        tuple(name for name, _, _ in kind.inputs),
    )  # fmt: skip


def columns_of(block: Block, about: AnswersMetadata) -> pa.RecordBatch:
    """A block as a record batch."""
    rows, kind = block.rows, block.kind
    counts = np.array(block.counts)
    ids = pa.array(block.ids)
    starts = np.cumsum(counts) - counts
    columns: dict[str, pa.Array] = {
        "id": ids if len(ids) == rows else ids.take(pa.array(np.repeat(np.arange(len(ids)), counts))),
        "row": pa.array((np.arange(rows) - np.repeat(starts, counts)).astype(np.int32)),
        "time": pa.array((block.times[:rows] * 1e6).astype(np.int64)).cast(pa.timestamp("us", "UTC")),
        "call": pa.array(block.calls[:rows]),
    }
    if about.of_tokens:
        columns["tokens"] = pa.array(np.full(rows, kind.shape[0], np.int32))
    for layer, name in enumerate(about.layers):
        given = block.outputs[layer, :rows]
        columns[f"output/{name}"] = _lists(given if about.exact else given.astype(np.float16), about.of_tokens)
    for name in about.upstream:
        columns[f"output/{name}"] = _uneven([part.get(name) for part in block.upstream], about.exact, rows)
    for node, name in enumerate((*about.members, *about.upstream)):
        columns[f"state/{name}"] = pa.DictionaryArray.from_arrays(pa.array(block.states[node, :rows]), _STATES)
    columns["fused"] = _lists(block.values[:rows], about.of_tokens)
    columns["coverage"] = pa.array(block.coverage[:rows])
    if block.abstained is not None:
        columns["abstained"] = pa.array(block.abstained[:rows])
    for name in about.inputs:
        columns[f"input/{name}"] = write_column(np.concatenate([given[name] for given in block.inputs]))
    return pa.record_batch(columns).replace_schema_metadata(about.to_schema())


def _lists(values: Array, free: bool) -> pa.Array:
    """(R, ...) as lists; of tokens of any length."""
    flat, size = pa.array(np.ascontiguousarray(values).reshape(-1)), math.prod(values.shape[1:])
    if free:
        return pa.LargeListArray.from_arrays(np.arange(0, len(flat) + 1, size, dtype=np.int64), flat)
    return pa.FixedSizeListArray.from_arrays(flat, size)


def _uneven(parts: Sequence[Array | None], exact: bool, rows: int) -> pa.Array:
    """What a member gave, batch by batch; nothing where it gave nothing of a batch, or text."""
    dtype = np.float32 if exact else np.float16
    kind = pa.large_list(pa.float32() if exact else pa.float16())
    known = [part for part in parts if part is not None]
    numbers = all(part.dtype.kind in "fiub" for part in known)
    if not numbers or len(known) < len(parts) or sum(len(part) for part in known) != rows:
        return pa.nulls(rows, kind)
    lists = [_lists(np.asarray(part.reshape(len(part), -1), dtype), True) for part in known]
    return pa.concat_arrays(lists).cast(kind)


def layer_arrays(batch: pa.RecordBatch, about: AnswersMetadata) -> Iterator[tuple[slice, Mapping[str, Array]]]:
    """``output/...`` of layers and ``fused`` as arrays: runs of rows, and by column (n, ...) each, of one shape."""
    names = [*(f"output/{name}" for name in about.layers), "fused"]
    shapes = [*[about.shape] * len(about.layers), about.fused]
    tokens = batch.column("tokens").to_numpy() if about.of_tokens else np.zeros(batch.num_rows, np.int32)
    edges = [0, *(np.flatnonzero(np.diff(tokens)) + 1).tolist(), batch.num_rows]
    for start, stop in pairwise(edges):
        rows = slice(start, stop)
        found = {}
        for name, shape in zip(names, shapes, strict=True):
            flat = batch.column(name).slice(start, stop - start).flatten().to_numpy(zero_copy_only=True)
            found[name] = flat.reshape(stop - start, *(int(tokens[start]) if n == -1 else n for n in shape))
        yield rows, found
