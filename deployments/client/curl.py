"""A request as a line for a shell: what to show others, put into an issue, or translate to another language."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from numpy.typing import NDArray

from quorate.deployments.client.messages import Scalar, json_tensor
from quorate.deployments.errors import RequestError
from quorate.deployments.security.credentials import Credentials

Array = NDArray[Any]
# Linux takes arguments of up to 128 KiB each.
MAX_BODY_BYTES = 100_000
TOKEN = "QUORATE_TOKEN"


def curl_line(
    url: str,
    arrays: Mapping[str, Array],
    parameters: Mapping[str, Scalar],
    credentials: Credentials,
    outputs: Sequence[str] = (),
) -> str:
    """``curl`` with the request in JSON. A token is not shown: the line reads it from the environment.

    Args:
        url: of the model's inference.
        outputs: those of several that are wanted; all when none are named.

    Raises:
        RequestError: JSON cannot hold the rows, or they are too many for a line.
    """
    asked: dict[str, Any] = {"inputs": [json_tensor(name, array) for name, array in arrays.items()]}
    if outputs:
        asked["outputs"] = [{"name": name} for name in outputs]
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
