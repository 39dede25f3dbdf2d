"""Ray's Jobs API over HTTP, as far as a command needs it; Ray itself need not be installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx

from quorate.cluster.local.ray_token import ray_token, refused
from quorate.deployments.errors import ClusterError

_TIMEOUT_S = 60.0
# What a node may take to send a file: Ray ends the stream then, whatever has arrived.
_FILE_TIMEOUT_S = 86_400
# Less than any member asks for: a node that has CPUs at all. A head often has none, and little memory.
_SOME_CPU = 0.01
_REFUSED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


class JobsApi:
    """Of one cluster.

    Args:
        address: of its dashboard, ``http://head:8265``.
    """

    def __init__(self, address: str):
        self._address, self._token = address, ray_token()
        headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
        self._http = httpx.Client(base_url=address.rstrip("/"), headers=headers, timeout=_TIMEOUT_S)

    def submit(self, job: str, entrypoint: str, computes: bool = False) -> None:
        """Start a job of this name, on the head; one that computes by itself on a node that has CPUs."""
        asked: dict[str, Any] = {"entrypoint": entrypoint, "submission_id": job}
        self._ask("POST", "/api/jobs/", json=asked | ({"entrypoint_num_cpus": _SOME_CPU} if computes else {}))

    def status(self, job: str) -> tuple[str, str]:
        """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED, and Ray's words for it."""
        found = self._ask("GET", f"/api/jobs/{job}").json()
        return str(found["status"]), str(found.get("message") or "")

    def logs(self, job: str) -> str:
        """All that the job has written."""
        return str(self._ask("GET", f"/api/jobs/{job}/logs").json()["logs"])

    def stop(self, job: str) -> None:
        """End a job, which is given a few seconds for it."""
        self._ask("POST", f"/api/jobs/{job}/stop")

    def has_package(self, name: str) -> bool:
        """Whether something of this name is in Ray's package store."""
        return self._answer("GET", f"/api/packages/gcs/{name}").status_code == httpx.codes.OK

    def put_package(self, name: str, data: bytes) -> None:
        """Put something there."""
        self._ask("PUT", f"/api/packages/gcs/{name}", content=data)

    def read_file(self, node_id: str, name: str) -> Iterator[bytes]:
        """What a file in the folder of Ray's logs on a node holds, in pieces: the only way out that Ray has."""
        asked = {"node_id": node_id, "filename": name, "lines": "-1", "timeout": str(_FILE_TIMEOUT_S)}
        try:
            with self._http.stream("GET", "/api/v0/logs/file", params=asked) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._refusal(answer, "GET", "/api/v0/logs/file")
                yield from answer.iter_bytes()
        except httpx.HTTPError as error:
            raise ClusterError(f"{self._address} does not send {name} to its end ({error}); try again") from None

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> JobsApi:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, method: str, path: str, **body: Any) -> httpx.Response:
        answer = self._answer(method, path, **body)
        if answer.is_success:
            return answer
        raise self._refusal(answer, method, path)

    def _refusal(self, answer: httpx.Response, method: str, path: str) -> ClusterError:
        said = answer.text.strip().splitlines()
        reason = f"{answer.status_code}: {said[-1][:200] if said else 'no reason given'}"
        return ClusterError(f"{self._address} refused {method} {path} ({reason}); is it a cluster's Jobs address?")

    def _answer(self, method: str, path: str, **body: Any) -> httpx.Response:
        """The answer, whatever it is.

        Raises:
            ClusterError: nobody answers, or the token is not the cluster's.
        """
        try:
            answer = self._http.request(method, path, **body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            fix = "give the address of its dashboard, http://HEAD:8265"
            raise ClusterError(f"no cluster's Jobs API answers at {self._address} ({error}); {fix}") from None
        if answer.status_code in _REFUSED:
            raise refused(self._address, self._token is not None)
        return answer
