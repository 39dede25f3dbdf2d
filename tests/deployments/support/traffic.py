"""Clients that ask all the time while something else is done to the ensemble."""

import threading
import time

from quorate.deployments import Client


class Traffic:
    """Three clients that ask one question from ``with`` to its end.

    Attributes:
        answers: all of theirs.
        took_s: how long each took.
        failures: what was raised instead of an answer.
    """

    def __init__(self, url, model, inputs, per_connection=None, pause_s=0.01):
        """Args:
        url: of the HTTP door.
        per_connection: requests before a client connects anew, perhaps to another replica; None for one connection.
        pause_s: how long each client waits before it asks again, so that what is done meanwhile has the cores.
        """
        self.answers, self.took_s, self.failures = [], [], []
        self._url, self._model, self._inputs, self._per_connection = url, model, inputs, per_connection
        self._pause_s, self._stop = pause_s, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]

    def _run(self):
        while not self._stop.is_set():
            with Client(self._url, model=self._model) as client:
                self._ask(client)

    def _ask(self, client):
        asked = 0
        while not self._stop.is_set() and asked != self._per_connection:
            asked += 1
            began = time.monotonic()
            try:
                self.answers.append(client.infer(**self._inputs))
            except Exception as error:
                self.failures.append(error)
            else:
                self.took_s.append(time.monotonic() - began)
            self._stop.wait(self._pause_s)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def revisions(self):
        return {answer.parameters["revision"] for answer in self.answers}
