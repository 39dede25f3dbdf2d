"""Rows from a file to a running ensemble, with the client a user would use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.client.client import Client, Result
from quorate.deployments.errors import RequestError
from quorate.deployments.security.credentials import Credentials
from quorate.deployments.wire.datatypes import numpy_dtype


def ask(
    url: str,
    ensemble: str,
    member: str | None,
    path: Path,
    deadline_ms: float | None = None,
    explain: bool = False,
    credentials: Credentials | None = None,
) -> Result:
    """Send a file's rows.

    Raises:
        RequestError: the file cannot be read, or does not hold the model's inputs.
        RemoteError: the server refused.
    """
    with Client(url, credentials=credentials) as client:
        model = member or ensemble
        inputs = {item["name"]: item for item in client.metadata(model)["inputs"]}
        arrays = _fit(path, _read(path, inputs), inputs)
        parameters: dict[str, Any] = {} if deadline_ms is None else {"deadline_ms": deadline_ms}
        if explain:
            parameters["explain"] = True
        return client.infer(model, arrays, **parameters)


def _read(path: Path, inputs: dict[str, Any]) -> dict[str, NDArray[Any]]:
    names = sorted(inputs)
    if path.suffix in (".parquet", ".arrow"):
        return _read_table(path, inputs)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if path.suffix == ".npy":
            return {_only(path, names): np.load(path, allow_pickle=False)}
        if path.suffix == ".json":
            data = json.loads(path.read_text())
            named = data if isinstance(data, dict) else {_only(path, names): data}
            return {name: np.asarray(value) for name, value in named.items()}
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read ({error}); give .npy, .npz or .json") from None
    raise RequestError(f"{path} is neither .npy, .npz, .json, .parquet nor .arrow; save the rows as one of these")


def _read_table(path: Path, inputs: dict[str, Any]) -> dict[str, NDArray[Any]]:
    import pyarrow as pa

    from quorate.cluster.cli.commands.query_stream import read_batches
    from quorate.deployments.wire.arrow_tensors import read_column

    table = pa.Table.from_batches(read_batches(path, list(inputs))).combine_chunks()
    return {
        name: read_column(name, table.column(name).combine_chunks(), item["datatype"], tuple(item["shape"][1:]))
        for name, item in inputs.items()
    }


def _only(path: Path, names: list[str]) -> str:
    if len(names) != 1:
        raise RequestError(f"{path} holds one array but the model reads {', '.join(names)}; give .npz with these names")
    return names[0]


def _fit(path: Path, arrays: dict[str, NDArray[Any]], inputs: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Give a single row its batch dimension, and numbers the model's width: a file's float64 is no statement."""
    fitted = {}
    for name, array in arrays.items():
        if name not in inputs:
            raise RequestError(f"{path} holds '{name}', which the model does not read; it reads {', '.join(inputs)}")
        wanted = numpy_dtype(inputs[name]["datatype"])
        if array.dtype != wanted and not np.can_cast(array.dtype, wanted, casting="same_kind"):
            raise RequestError(f"{path} holds '{name}' as {array.dtype}, the model reads {inputs[name]['datatype']}")
        array = array.astype(wanted)
        fitted[name] = array[np.newaxis] if array.ndim == len(inputs[name]["shape"]) - 1 else array
    return fitted
