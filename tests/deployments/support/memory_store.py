"""Stands in for the cluster's store where no cluster runs."""

import threading


class MemoryStore:
    """The registry's store as a dict."""

    def __init__(self):
        self.values = {}
        self._lock = threading.Lock()

    def get(self, key):
        return self.values.get(key, b"")

    def put(self, key, value, overwrite=True):
        with self._lock:
            if overwrite:
                self.values[key] = value
            return self.values.setdefault(key, value) == value

    def delete(self, key):
        self.values.pop(key, None)

    def keys(self, prefix):
        return [key for key in list(self.values) if key.startswith(prefix)]
