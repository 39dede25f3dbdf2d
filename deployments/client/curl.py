"""A request as a line for a shell: what to show others, put into an issue, or translate to another language."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from quorate.deployments.client.inputs import as_bytes
from quorate.deployments.client.messages import Scalar, datatype_named
from quorate.deployments.errors import RequestError
from quorate.deployments.security.credentials import Credentials

Array = NDArray[Any]
# Linux takes arguments of up to 128 KiB each.
MAX_BODY_BYTES = 100_000
TOKEN = "QUORATE_TOKEN"


def curl_line(url: str, arrays: Mapping[str, Array], parameters: Mapping[str, Scalar], credentials: Credentials) -> str:
    """``curl`` with the request in JSON. A token is not shown: the line reads it from the environment.

    Args:
        url: of the model's inference.

    Raises:
        RequestError: JSON cannot hold the rows, or they are too many for a line.
    """
    asked: dict[str, Any] = {"inputs": [_tensor(name, array) for name, array in arrays.items()]}
    body = orjson.dumps({**asked, "parameters": dict(parameters)} if parameters else asked)
    if len(body) > MAX_BODY_BYTES:
        raise RequestError(
            f"{len(body)} bytes are too long for a line; give fewer rows, {MAX_BODY_BYTES} bytes at most"
        )
    words = ["curl", "-sS", shlex.quote(url), "-H", "'Content-Type: application/json'"]
    if credentials.token:
        words += ["-H", f'"Authorization: Bearer ${TOKEN}"']
    for option, file in (("--cacert", credentials.ca), ("--cert", credentials.cert), ("--key", credentials.key)):
        words += [option, shlex.quote(file)] if file else []
    return " ".join([*words, "--data-raw", shlex.quote(body.decode())])


def _tensor(name: str, array: Array) -> dict[str, Any]:
    array = as_bytes(name, array) if array.dtype.kind in "USO" else array
    return {"name": name, "datatype": datatype_named(name, array), "shape": array.shape, "data": _data(name, array)}


def _data(name: str, array: Array) -> list[Any]:
    if array.dtype == object:
        try:
            return [item.decode() for item in array.ravel()]
        except UnicodeDecodeError:
            raise RequestError(f"input '{name}' holds bytes that are no text, and JSON has none; use infer") from None
    if array.dtype.kind not in "biu" and not np.isfinite(array.astype(np.float64)).all():
        raise RequestError(f"input '{name}' holds NaN or infinity, which JSON has no word for; use infer")
    data: list[Any] = array.ravel().tolist()
    return data
