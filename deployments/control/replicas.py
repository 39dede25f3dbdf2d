"""All running replicas of Serve applications, called at once."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatusOverview

from quorate.deployments.control.ray_private import app_states

# Applications that are called at the same time, a thread each.
_AT_ONCE = 128


class Replicas:
    """The replicas of applications, those that run."""

    def __init__(self, apps: Iterable[str]):
        self._apps = sorted(apps)

    def call(self, method: str, *arguments: Any, timeout_s: float) -> list[Any]:
        """What each replica returned, or the exception that it raised; a TimeoutError of one that is late.

        One that has died meanwhile gives nothing.
        """
        known = app_states()
        apps = [app for app in self._apps if app in known and known[app].alive]
        until = time.monotonic() + timeout_s
        with ThreadPoolExecutor(min(max(1, len(apps)), _AT_ONCE)) as pool:
            found = pool.map(lambda app: _call(app, method, arguments, until), apps)
            return [reply for replies in found for reply in replies]

    def count(self) -> int:
        """How many of them Serve has brought up and not given up."""
        return sum(self.counts().values())

    def counts(self) -> dict[str, int]:
        """The same of each application."""
        known = serve.status().applications
        return {app: _running(known[app]) if app in known else 0 for app in self._apps}


def _running(app: ApplicationStatusOverview) -> int:
    states = (deployment.replica_states for deployment in app.deployments.values())
    return sum(found.get("RUNNING", 0) for found in states)  # type: ignore[call-overload]


def _call(app: str, method: str, arguments: tuple[Any, ...], until: float) -> list[Any]:
    try:
        calls = serve.get_app_handle(app).broadcast(method, *arguments)
        replies = calls.results(timeout_s=max(until - time.monotonic(), 0.1), return_exceptions=True)
        return [reply for reply in replies if not isinstance(reply, RayActorError)]
    except RayServeException:  # deleted since
        return []
    except TimeoutError as error:  # before any was called
        return [error]
