"""A client in Python: arrays in, arrays out; Arrow record batches in, record batches out."""

# B rows

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx
from numpy.typing import ArrayLike

from quorate.deployments.client.inference import (
    Attempt,
    Call,
    Calls,
    Inputs,
    Outcome,
    Pause,
    Scalar,
    SocketOptions,
    T,
)
from quorate.deployments.client.result import Result

if TYPE_CHECKING:
    from quorate.deployments.client.arrow import ArrowResult


class Client(Calls[httpx.Client]):
    """Speaks the Open Inference Protocol over HTTP; one connection pool, safe to share between threads.

    Args:
        url: of the HTTP door, or of several, in a sequence or with commas between them: calls take turns at them. Where
            none of these answers, the others that the server has named are asked.
        timeout_s: how long an answer may take, whatever is tried for it, and a stream may pause.
        credentials: what the server wants to see.
        model: asked where a call names none.
        retries: how often a call is made again that every door refuses with 503, after the time they ask for.

    A call goes on to another door when one is not there or refuses it with 503, and once when a connection is lost
    under it, but not after its own deadline. What may have been published is not published again.

    Raises:
        RequestError: a URL is none.
        CredentialError: a file of the credentials cannot be used.
    """

    def _open(
        self, headers: dict[str, str], verify: ssl.SSLContext | bool, sockets: SocketOptions | None
    ) -> httpx.Client:
        transport = None if sockets is None else httpx.HTTPTransport(verify=verify, socket_options=sockets)
        return httpx.Client(headers=headers, verify=verify, transport=transport)

    def infer(self, model: str | Inputs = "", inputs: Inputs | None = None, /, **named: ArrayLike) -> Result:
        """Ask a model: ``client.infer("digits", image=rows, deadline_ms=50)``, ``client.infer(text=["good", "bad"])``.

        Args:
            model: the ensemble's name, or a member's; the client's when left out.
            inputs: (B, *shape) each, by name, or a DataFrame; for names that are none in Python too.
            named: an array is an input, as it is. Lists, Series, tensors, strings and numbers are inputs where the
                model has one of that name, in its datatype; anything else is a parameter of the request, such as
                ``explain=True``. For those the model is asked once what its inputs are.

        Raises:
            RemoteError: the server refused the request.
            RequestError: an input is not of the model's datatype, or of none that the protocol has.
            UnavailableError: there is no server at any address.
        """
        return self._run(self._infer(model, inputs, named))

    def infer_arrow(self, data: Any, model: str = "", **parameters: Scalar) -> Iterator[ArrowResult]:
        """Ask for rows in bulk; they go out while answers come in, and none are kept.

        Args:
            data: a ``pyarrow.Table``, ``RecordBatch`` or ``RecordBatchReader``, or record batches one by one, with one
                column for each of the model's inputs (see ``quorate.deployments.wire.arrow_tensors``).
            model: as in ``infer``.
            parameters: of every row's request.

        Yields:
            Answers in the rows' order, an output column each, and what the server says of these rows.

        Raises:
            RemoteError: the server refused, at once or midway.
            UnavailableError: there is no server at any address, or its answer broke off. A stream goes on to another
                door only before its first answer.
        """
        from quorate.deployments.client.arrow import infer_stream

        path = self._path(self._named(model), "/infer")
        answers = infer_stream(self._doors, path, self._credentials, self._timeout_s, data, parameters)
        return self._and_doors_found(answers)

    def publish(self, fusion: Mapping[str, Any], model: str = "") -> None:
        """Make a fusion the live one: ``client.publish({"weights": {"cnn": 0.7, "rnn": 0.3}})``.

        Args:
            fusion: the fields of a spec's fusion; what it leaves out stays as it is, None takes it away.
            model: the ensemble.

        Raises:
            RemoteError: the server refused; the old one still answers.
        """
        self._run(self._publish(fusion, model))

    def metadata(self, model: str = "") -> dict[str, Any]:
        """A model's inputs and outputs."""
        return self._run(self._metadata(model))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _and_doors_found(self, answers: Iterator[ArrowResult]) -> Iterator[ArrowResult]:
        yield from answers
        self._run(self._find_doors())

    def _run(self, call: Call[T]) -> T:
        steps, outcome = self._and_find_doors(call), None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                value: T = done.value
                return value
            outcome = self._do(step)

    def _do(self, step: Attempt | Pause) -> Outcome:
        if isinstance(step, Pause):
            time.sleep(step.pause_s)
            return None
        try:
            return self._http.request(**step.options())
        except httpx.TransportError as error:
            return error
