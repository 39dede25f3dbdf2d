"""Waiting for what happens on other threads and in other processes."""

import threading


def until(condition, timeout_s=60.0):
    """Return once ``condition()`` holds; fail when it does not come to that."""
    tried, waited_s, pause_s = threading.Event(), 0.0, 0.01
    while not condition():
        if waited_s >= timeout_s:
            raise AssertionError("it did not come to pass")
        tried.wait(pause_s)
        waited_s += pause_s
        pause_s = min(1.3 * pause_s, 0.1)  # to ask costs, too
