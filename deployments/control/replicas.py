"""All running replicas of a Serve application, called at once."""

from __future__ import annotations

from typing import Any

from ray import serve


class Replicas:
    """The replicas of an application that runs."""

    def __init__(self, app: str):
        self._handle = serve.get_app_handle(app)

    def call(self, method: str, *arguments: Any, timeout_s: float) -> list[Any]:
        """What each replica returned, or the exception that it raised; a TimeoutError of one that is late."""
        calls = self._handle.broadcast(method, *arguments)
        try:
            return list(calls.results(timeout_s=timeout_s, return_exceptions=True))
        except TimeoutError as error:  # before any was called
            return [error]
