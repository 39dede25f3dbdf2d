"""A client in Python: NumPy arrays in, NumPy arrays out."""

# B rows

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from quorate.deployments.datatypes import datatype_of, numpy_dtype
from quorate.fusion.errors import QuorateError, UnavailableError

Array = NDArray[Any]


@dataclass(frozen=True)
class Result:
    """An answer: outputs by name, (B, ...) each, and what the server says about it (revision, members_used, ...)."""

    outputs: Mapping[str, Array]
    parameters: Mapping[str, Any]


class RemoteError(QuorateError):
    """The server refused; the text is its own, ``status`` the HTTP status."""

    def __init__(self, status: int, text: str):
        super().__init__(status, text)
        self.status, self.text = status, text

    def __str__(self) -> str:
        return f"the server answered {self.status}: {self.text}"


class Client:
    """Speaks the Open Inference Protocol over HTTP; one connection pool, safe to share between threads."""

    def __init__(self, url: str, timeout_s: float = 30.0):
        self._http = httpx.Client(base_url=url, timeout=timeout_s)

    def infer(self, model: str, inputs: Mapping[str, Array], **parameters: str | int | float | bool) -> Result:
        """Ask a model.

        Args:
            model: the ensemble's name, or a member's.
            inputs: by name, (B, *shape), of the model's datatype.
            parameters: the request's parameters, such as ``explain=True`` or ``deadline_ms=50``.

        Raises:
            RemoteError: the server refused the request.
            UnavailableError: there is no server at the address.
        """
        tensors = [
            {"name": name, "datatype": datatype_of(array), "shape": list(array.shape), "data": array.ravel().tolist()}
            for name, array in inputs.items()
        ]
        body = self._call("POST", f"/v2/models/{model}/infer", {"inputs": tensors, "parameters": parameters})
        outputs = {
            item["name"]: np.array(item["data"], numpy_dtype(item["datatype"])).reshape(item["shape"])
            for item in body["outputs"]
        }
        return Result(outputs, body.get("parameters", {}))

    def metadata(self, model: str) -> dict[str, Any]:
        """A model's inputs and outputs."""
        return self._call("GET", f"/v2/models/{model}")

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            reply = self._http.request(method, path, json=body)
            data: dict[str, Any] = reply.json()
        except httpx.TransportError as error:
            raise UnavailableError(
                f"no answer from {self._http.base_url} ({error}); is the ensemble deployed?"
            ) from None
        if reply.status_code != 200:
            raise RemoteError(reply.status_code, data.get("error", reply.text))
        return data
