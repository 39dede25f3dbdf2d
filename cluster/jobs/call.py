"""One operation through Ray's Jobs API: its arguments and files go there, its progress, result and errors come back."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

from quorate.cluster.jobs.api import JobsApi
from quorate.cluster.jobs.parcel import Parcel
from quorate.cluster.jobs.uploading import upload
from quorate.deployments import errors as deployments_errors
from quorate.deployments.errors import ClusterError
from quorate.deployments.own_code import boot
from quorate.deployments.own_code.archive import own_archive, own_digest
from quorate.fusion import errors as fusion_errors
from quorate.fusion.errors import QuorateError
from quorate.tuning import errors as tuning_errors

OnStep = Callable[[str], None]
# By the word that a line of the job starts with, what is done with the rest.
Hear = Mapping[str, Callable[[JobsApi, Any], None]]
_ERRORS = (deployments_errors, tuning_errors, fusion_errors)
_POLL_S = 0.3
_STOP_TIMEOUT_S = 60.0
_ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
# The interpreter of the node's workers: what is called python in the job's shell may be another, or none. And the
# cluster of the node: Ray 2.60 gives a job the first that it finds on the machine, in another container, say.
_PYTHON = (
    "raylet=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$PPID/status); "
    "words() { tr '\\0' '\\n' </proc/$raylet/cmdline; }; "
    "python=$(words | sed -n 's/^--python_worker_command=\\([^ ]*\\).*/\\1/p'); "
    "head=$(words | sed -n 's/^--gcs-address=//p'); "
    'export RAY_ADDRESS="${head:-$RAY_ADDRESS}"; exec "${python:-python}"'
)


def request_name(job: str) -> str:
    """What a job's arguments are called in Ray's package store."""
    return f"{job}-request.json"


def stop_name(job: str) -> str:
    """What is there once a job is to end."""
    return f"{job}-stop.json"


def call_in_job(
    address: str,
    operation: str,
    arguments: Mapping[str, Any],
    parcel: Parcel | None = None,
    on_step: OnStep | None = None,
    hear: Hear | None = None,
    computes: bool = False,
) -> Any:
    """What an operation says, in JSON's types.

    Args:
        address: of the cluster's Jobs API.
        operation: one of ``cli.in_job``.
        arguments: of it, in JSON's types.
        parcel: files that it needs.
        on_step: told what is waited for.
        hear: what else this operation says.
        computes: the job does more than to wait for others.

    Raises:
        QuorateError: what the operation raised.
        ClusterError: the job could not be run.
    """
    job, parcel = f"quorate-{uuid4().hex[:12]}", parcel or Parcel()
    with JobsApi(address) as api:
        request = {"operation": operation, "arguments": dict(arguments), "files": parcel.to_json()}
        api.put_package(request_name(job), json.dumps(request).encode())
        source = Path(boot.__file__).read_text()
        api.submit(job, f"{_PYTHON} -c {shlex.quote(source)} {job} {own_digest()}", computes)
        running = _Running(api, job, parcel, on_step or (lambda step: None), hear or {})
        try:
            return running.result()
        except KeyboardInterrupt:
            running.stop()
            raise
        finally:
            running.stopped.set()


class _Running:
    """A job that was submitted."""

    def __init__(self, api: JobsApi, job: str, parcel: Parcel, say: OnStep, others: Hear):
        self._api, self._job, self._parcel, self._say, self._others = api, job, parcel, say, others
        self._read, self._said = 0, dict[str, Any]()
        self.stopped = Event()
        self._failed: QuorateError | None = None

    def result(self) -> Any:
        """Wait for it."""
        self._say("waiting for the cluster to start the job")
        while True:
            status, message = self._api.status(self._job)
            try:
                for said in self._news():
                    self._hear(said)
            except QuorateError:
                self._others = {}
                self.stop()
                raise
            if self._failed is not None:
                self.stop()
                raise self._failed
            if "error" in self._said:
                raise _raised(*self._said["error"])
            if "result" in self._said:
                return self._said["result"]
            if status in _ENDED:
                last = (self._api.logs(self._job).strip().splitlines() or [message])[-1][:300]
                raise ClusterError(f"the job ended as {status} ({last}); ray job logs {self._job} has more")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Have it end as on Ctrl-C there, and wait until it has."""
        self._api.put_package(stop_name(self._job), b"{}")
        until = time.monotonic() + _STOP_TIMEOUT_S
        while self._api.status(self._job)[0] not in _ENDED:
            for said in self._news():
                self._hear(said)  # what there is of a run comes here first
                until = time.monotonic() + _STOP_TIMEOUT_S
            if time.monotonic() > until:
                self._api.stop(self._job)
                return
            time.sleep(_POLL_S)

    def _news(self) -> Iterator[dict[str, Any]]:
        """What the job has said since the last time, in whole lines."""
        logs = self._api.logs(self._job)
        whole = logs.rfind("\n") + 1
        fresh, self._read = logs[self._read : whole], max(self._read, whole)
        for line in fresh.splitlines():
            if line.startswith(boot.SAYS):
                yield json.loads(line.removeprefix(boot.SAYS))

    def _hear(self, said: dict[str, Any]) -> None:
        (word,) = said
        if word in self._others:
            self._others[word](self._api, said[word])
        elif "step" in said:
            self._say(said["step"])
        elif "code" in said:
            self._api.put_package(boot.code_key(own_digest()), own_archive())
        elif "need" in said:
            Thread(target=self._send, args=(said["need"],), name="upload", daemon=True).start()
        else:
            self._said |= said

    def _send(self, need: list[tuple[str, int]]) -> None:
        places = {file.digest: path for path, file in self._parcel.files}
        sizes = {file.digest: file.size_bytes for _, file in self._parcel.files}
        total, shown = sum(sizes[digest] - start for digest, start in need), ""
        try:
            for sent in upload(self._api, self._job, ((places[digest], start) for digest, start in need), self.stopped):
                step = f"sending files: {sent / 1e6:,.0f} of {total / 1e6:,.0f} MB"
                if step != shown:
                    self._say(step)
                    shown = step
        except QuorateError as error:
            self._failed = error
        except OSError as error:
            self._failed = ClusterError(f"a file cannot be read any more ({error}); deploy again")


def _raised(kind: str, arguments: list[Any], text: str) -> QuorateError:
    """The error that the operation raised, where it is one that is known here."""
    known = next((found for found in (getattr(module, kind, None) for module in _ERRORS) if found is not None), None)
    try:
        error: QuorateError = known(*arguments) if known is not None else ClusterError(text)
    except TypeError:
        return ClusterError(text)
    return error
