"""A client in Python: arrays in, arrays out; Arrow record batches in, record batches out."""

# B rows

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
    SocketOptions,
    T,
)
from quorate.deployments.client.labels import given_labels
from quorate.deployments.client.messages import Scalar
from quorate.deployments.client.result import Result
from quorate.deployments.client.row_batches import Rows, row_batches
from quorate.deployments.wire.feedback import FeedbackReply, GivenLabel

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
        retry_share: of all calls so many, and ten a second, may be sent to a server once more, for whatever reason.
        connections: at most so many, which are kept; a call waits where all are in use.

    A call goes on to another door when one is not there or refuses it with 503, and once when a connection is lost
    under it, but not after its own deadline. What may have been published is not published again.

    Raises:
        RequestError: a URL is none.
        CredentialError: a file of the credentials cannot be used.
    """

    def _open(
        self, headers: dict[str, str], pool: httpx.Limits, verify: ssl.SSLContext | bool, sockets: SocketOptions | None
    ) -> httpx.Client:
        if sockets is None:
            return httpx.Client(headers=headers, verify=verify, limits=pool)
        transport = httpx.HTTPTransport(verify=verify, limits=pool, socket_options=sockets)
        return httpx.Client(headers=headers, transport=transport)

    def infer(self, model: str | Inputs = "", inputs: Inputs | None = None, /, **named: ArrayLike) -> Result:
        """Ask a model: ``client.infer("digits", image=rows, deadline_ms=50)``, ``client.infer(text=["good", "bad"])``.

        Args:
            model: the ensemble's name, or a member's; the client's when left out.
            inputs: (B, *shape) each, by name, for names that are none in Python too; or a DataFrame, whose other
                columns are left out.
            named: an array is an input, as it is; where it has a dtype that NumPy has made of Python's numbers or
                strings, in the model's. Lists, Series, tensors, strings and numbers are inputs where the model has one
                of that name, in its datatype; anything else is a parameter of the request, such as ``explain=True``,
                and None is nothing. For those the model is asked once what its inputs are. ``outputs=["topic"]``
                names those of several outputs that are wanted.

        Raises:
            RemoteError: the server refused the request.
            RequestError: an input is not of the model's datatype, or of none that the protocol has.
            UnavailableError: there is no server at any address.
        """
        return self._run(self._infer(model, inputs, named))

    def stream(
        self, rows: Rows, model: str = "", *, batch_rows: int = 64, ahead: int = 4, **parameters: ArrayLike
    ) -> Generator[Result, None, None]:
        """Ask for many rows, or for rows as they come: ``for answer in client.stream(frame): ...``.

        Args:
            rows: a DataFrame, arrays by input name, or an iterable of rows one by one, each a mapping from input names
                or the value of a model's only input. It is drawn from only as far as answers have been taken.
            model: as in ``infer``.
            batch_rows: in one request.
            ahead: requests under way at once.
            parameters: of every request.

        Yields:
            An answer for each batch, in the rows' order.

        Raises:
            What ``infer`` raises, in the place of the batch that it is about.
        """
        name = self._named(model)
        batches = row_batches(rows, batch_rows, self._run(self._describe(name)).inputs)
        running: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(ahead, thread_name_prefix="stream") as pool:
            try:
                for batch in batches:
                    running.append(pool.submit(self.infer, name, batch, **parameters))
                    if len(running) >= ahead:
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def curl(self, model: str | Inputs = "", inputs: Inputs | None = None, /, **named: ArrayLike) -> str:
        """The same as ``infer``, not sent but as a line of curl for a shell.

        Raises:
            RequestError: JSON cannot hold the rows, or they are too many for a line.
        """
        return self._run(self._curl(model, inputs, named))

    def infer_arrow(
        self, data: Any, model: str = "", outputs: Sequence[str] = (), **parameters: Scalar
    ) -> Iterator[ArrowResult]:
        """Ask for rows in bulk; they go out while answers come in, and none are kept.

        Args:
            data: a ``pyarrow.Table``, ``RecordBatch`` or ``RecordBatchReader``, or record batches one by one, with one
                column for each of the model's inputs (see ``quorate.deployments.wire.arrow_tensors``).
            model: as in ``infer``.
            outputs: those of several that are wanted; all when none are named.
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
        answers = infer_stream(self._doors, path, self._credentials, self._timeout_s, data, parameters, outputs)
        return self._and_doors_found(answers)

    def publish(self, fusion: Mapping[str, Any], model: str = "") -> None:
        """Make a fusion the live one: ``client.publish({"weights": {"cnn": 0.7, "rnn": 0.3}})``.

        Args:
            fusion: the fields of a spec's fusion; what it leaves out stays as it is, None takes it away. Where fusions
                have names, ``{"fusions": {name: fields}}``.
            model: the ensemble.

        Raises:
            RemoteError: the server refused; the old one still answers.
        """
        self._run(self._publish(fusion, model))

    def feedback(
        self,
        answers: Result | str | Sequence[str] | Sequence[GivenLabel],
        labels: Sequence[Any] | str | float | None = None,
        rows: Sequence[int] | None = None,
        output: str = "",
        model: str = "",
    ) -> FeedbackReply:
        """Tell what was true of rows that were answered: ``client.feedback(result, ["cat", "dog"])``.

        Args:
            answers: a result whose rows are meant; the ``answer_id`` of an answer, or one for each label; or labels as
                ``GivenLabel``, which say all.
            labels: one for each row: the name of a class, the list of those that are true, a tag for each token, a
                number or a list of numbers.
            rows: of the answers, where these have several.
            output: that is meant, where the ensemble has several.
            model: as in ``infer``.

        Returns:
            How many labels were taken, and which were not and why. Those that were are written.

        Raises:
            RequestError: there are more labels than answers, or fewer.
            RemoteError: the server refused all of them; UnavailableError: there is none.
        """
        return self._run(self._feedback(given_labels(answers, labels, rows, output), model))

    def models(self) -> list[str]:
        """The names of what the server has: the ensemble first, then its members; raises as ``infer``."""
        return self._run(self._models())

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
