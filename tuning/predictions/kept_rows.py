"""What is known of the rows of a split beside predictions, in ``LOCATION/SPLIT/rows.arrow``.

With it a store is all that weights are solved from: rows that come later are put beside those that are there, and
recognised where they are there already. Inputs are not kept.
"""

# N rows, C classes

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import fs as filesystems

from quorate.tuning.data.labelled import Labelled
from quorate.tuning.data.later.row_keys import Keys, row_keys
from quorate.tuning.predictions.partitions import replace_file

FILE = "rows.arrow"
_SIDE = ("groups", "times", "weights")
_KEY = b"quorate"


@dataclass(frozen=True)
class KeptRows:
    """Rows without their inputs.

    Attributes:
        keys: (N,) of their inputs (``row_keys``), or of the answers that they are of.
        rows: labels and what stands beside them; without inputs.
        data: a digest of the rows, as a split's entries have it.
    """

    keys: Keys
    rows: Labelled
    data: str

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of(cls, data: Labelled, digest: str) -> KeptRows:
        return cls(row_keys(data.inputs), bare(data), digest)

    @classmethod
    def named(cls, keys: Keys, rows: Labelled) -> KeptRows:
        """Of rows by their keys and labels alone."""
        digest = hashlib.sha256(keys.tobytes() + np.ascontiguousarray(rows.labels).tobytes()).hexdigest()
        return cls(keys, bare(rows), f"rows:{digest}")


def bare(rows: Labelled) -> Labelled:
    """Without inputs."""
    return Labelled({}, rows.labels, rows.classes, rows.groups, rows.times, rows.weights, rows.numbered)


def write_rows(files: filesystems.FileSystem, path: str, kept: KeptRows) -> None:
    """Replace what is known of a split's rows."""
    labels = kept.rows.labels
    flat = pa.array(np.ascontiguousarray(labels).reshape(-1))
    columns = {
        "key": pa.array(kept.keys),
        "label": flat if labels.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, labels.shape[1]),
    }
    columns |= {name: pa.array(found) for name in _SIDE if (found := getattr(kept.rows, name)) is not None}
    about = json.dumps({"classes": list(kept.rows.classes), "data": kept.data}).encode()
    batch = pa.record_batch(columns).replace_schema_metadata({_KEY: about})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    replace_file(files, path, sink.getvalue())


def read_rows(files: filesystems.FileSystem, path: str) -> KeptRows | None:
    """What was written; None where nothing was, or nothing that can be read."""
    if files.get_file_info(path).type != filesystems.FileType.File:
        return None
    try:
        with files.open_input_file(path) as file:
            batch = pa.ipc.open_file(file).get_batch(0)
        about: Mapping[str, Any] = json.loads(batch.schema.metadata[_KEY])
        column = batch.column("label")
        several = pa.types.is_fixed_size_list(column.type)
        labels = column.flatten().to_numpy().reshape(len(column), -1) if several else column.to_numpy()
        side: dict[str, Any] = {name: _array(batch.column(name)) for name in _SIDE if name in batch.schema.names}
        rows = Labelled({}, labels, tuple(about["classes"]), **side)
        return KeptRows(batch.column("key").to_numpy(), rows, about["data"])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None


def _array(column: pa.Array) -> NDArray[Any]:
    found: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return found.astype(str) if found.dtype == object else found
