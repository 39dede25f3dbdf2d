"""Tells an address of alarms, from a thread of its own: what does not answer delays nobody, and is counted."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

_log = logging.getLogger(__name__)
TIMEOUT_S, STOP_TIMEOUT_S = 5.0, 5.0
# How long is waited before each try.
TRIES_S = (0.0, 2.0, 20.0)
MOST_WAITING = 100


class Webhook:
    """Sends JSON, one after another."""

    def __init__(self, url: str, count: Callable[[str], None]):
        """Args:
        count: told what became of each: ``sent`` or ``failed``.
        """
        self._url, self._count = url, count
        self._waiting: queue.Queue[Mapping[str, Any] | None] = queue.Queue(MOST_WAITING)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def send(self, said: Mapping[str, Any]) -> None:
        """Send it soon."""
        try:
            self._waiting.put_nowait(said)
        except queue.Full:
            self._count("failed")

    def close(self) -> None:
        """Try no more."""
        self._ending.set()
        self._waiting.put(None)
        self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        while (said := self._waiting.get()) is not None:
            self._count("sent" if self._sent(said) else "failed")

    def _sent(self, said: Mapping[str, Any]) -> bool:
        why = ""
        for wait_s in TRIES_S:
            if self._ending.wait(wait_s):
                return False
            try:
                httpx.post(self._url, json=dict(said), timeout=TIMEOUT_S).raise_for_status()
                return True
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                why = str(error).splitlines()[0]
        # Who knows the rest of the address may write there, too.
        _log.warning("an alarm could not be sent to %s: %s", urlsplit(self._url).hostname, why)
        return False
