"""Rows from a file, as the inputs of a model: arrays, or record batches a few thousand rows at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.client.inputs import Metadata, as_input
from quorate.deployments.errors import RequestError
from quorate.fusion.extras import require

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 4096
_KINDS = ".npy, .npz, .json, .parquet or .arrow"


def read_arrays(path: Path, inputs: Sequence[Metadata]) -> dict[str, NDArray[Any]]:
    """(B, ...) each, by name, of the model's datatypes.

    Args:
        path: of the file.
        inputs: as the model's metadata describes them.

    Raises:
        RequestError: the file cannot be read, or does not hold the model's inputs.
    """
    known = {item["name"]: item for item in inputs}
    if path.suffix in (".parquet", ".arrow"):
        return _read_table(path, known)
    found = _read(path, sorted(known))
    for name in found:
        if name not in known:
            raise RequestError(f"{path} holds '{name}', which the model does not read; it reads {', '.join(known)}")
    return {name: as_input(array, known[name]) for name, array in found.items()}


def _read(path: Path, names: list[str]) -> dict[str, Any]:
    try:
        if path.suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if path.suffix == ".npy":
            return {_only(path, names): _array(path)}
        if path.suffix == ".json":
            return _named(path, json.loads(path.read_text()), names)
    except RequestError:
        raise
    except Exception as error:  # numpy lets out what zipfile, zlib and the tokenizer of a header raise
        fix = "strings go as an array of dtype 'U', or in .parquet" if "pickle" in str(error) else f"give {_KINDS}"
        raise RequestError(f"{path} cannot be read ({error}); {fix}") from None
    raise RequestError(f"{path} is no {_KINDS}; save the rows as one of these")


def _array(path: Path) -> NDArray[Any]:
    with path.open("rb") as file:  # numpy leaves a file open that it fails on
        found: NDArray[Any] | np.lib.npyio.NpzFile = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        found.close()
    raise ValueError("it is an archive of arrays")


def _named(path: Path, data: Any, names: list[str]) -> dict[str, Any]:
    """Columns by name, records one by one as pandas writes them, or the rows of a model's only input."""
    if isinstance(data, dict):
        return data
    if isinstance(data, list) and data and all(isinstance(record, dict) for record in data):
        return {name: [record.get(name) for record in data] for name in data[0]}
    return {_only(path, names): data}


def _only(path: Path, names: list[str]) -> str:
    if len(names) != 1:
        fix = ".json with an object of columns, .npz or .parquet with these names"
        raise RequestError(f"{path} holds one array but the model reads {', '.join(names)}; give {fix}")
    return names[0]


def _read_table(path: Path, inputs: dict[str, Metadata]) -> dict[str, NDArray[Any]]:
    require("arrow", f"reading {path.suffix}")
    import pyarrow as pa

    from quorate.deployments.wire.arrow_tensors import read_column

    batches = list(read_batches(path, list(inputs)))
    if not batches:
        raise RequestError(f"{path.name} holds no rows; give at least one")
    try:
        table = pa.Table.from_batches(batches).combine_chunks()
        return {
            name: read_column(name, table.column(name).combine_chunks(), item["datatype"], tuple(item["shape"][1:]))
            for name, item in inputs.items()
        }
    except pa.ArrowException as error:  # lengths within a damaged file that contradict each other
        raise RequestError(f"{path.name} cannot be read ({error}); write it again") from None


def read_batches(path: Path, names: list[str]) -> Iterator[pa.RecordBatch]:
    """The columns of these names, a few thousand rows at a time.

    Raises:
        RequestError: the file cannot be read, or lacks a column.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        if path.suffix == ".parquet":
            found = parquet.ParquetFile(path)
            schema, batches = found.schema_arrow, found.iter_batches(_ROWS, columns=names)
        else:
            schema, batches = _ipc(path)
        missing = [name for name in names if name not in schema.names]
        if missing:
            raise RequestError(f"{path.name} has no column {', '.join(missing)}; the model reads {', '.join(names)}")
        for batch in batches:
            yield batch.select(names)
    except (OSError, pa.ArrowException) as error:
        raise RequestError(f"{path.name} cannot be read ({' '.join(str(error).split())[:200]})") from None


def _ipc(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """An Arrow file, in either of its two formats."""
    import pyarrow as pa

    source = pa.memory_map(str(path))
    try:
        file = pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        stream = pa.ipc.open_stream(source)
        return stream.schema, iter(stream)
    return file.schema, (file.get_batch(number) for number in range(file.num_record_batches))
