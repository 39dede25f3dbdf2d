"""Waiting for what happens on other threads and in other processes."""

import threading


def until(condition, timeout_s=60.0):
    """Return once ``condition()`` holds; fail when it does not come to that."""
    tried = threading.Event()
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return
        tried.wait(0.01)
    raise AssertionError("it did not come to pass")
