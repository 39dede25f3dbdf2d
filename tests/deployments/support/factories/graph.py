"""Members to wire into graphs: each is a fixed linear map of all that it reads, which a test can compute too.

Of request input ``row`` they read number, command and mask like ``oracle``; ``index`` is a member's bit in the mask.
"""

import time
from pathlib import Path

import numpy as np

from tests.deployments.support.factories.oracle import NAN, RAISE, SLEEP

COMMAND = slice(1, 3)


def matrix(seed, inputs, outputs):
    """(inputs, outputs) float32, the same for the same arguments everywhere."""
    return np.random.default_rng([seed, inputs, outputs]).normal(size=(inputs, outputs)).astype(np.float32)


def evaluate(seed, outputs, sources):
    """(B, outputs) what a member gives for what it reads."""
    read = np.concatenate([np.asarray(s, dtype=np.float32).reshape(len(s), -1) for s in sources], axis=1)
    return np.tanh(read @ matrix(seed, read.shape[1], outputs))


def linear(seed, outputs, index=0, log=""):
    """A member over any number of arrays; where one is a row of three int64, it obeys the commands in it."""

    def predict(*sources):
        rows = next((s for s in sources if s.dtype == np.int64), None)
        mine = np.zeros(len(sources[0]), np.int64) if rows is None else rows[:, 1] * (rows[:, 2] >> index & 1)
        if log and (rows is None or rows[:, 0].any()):
            with Path(log).open("a") as file:
                file.write(f"{len(sources[0])}\n")
        if (mine == RAISE).any():
            raise ValueError("told to")
        if mine.max(initial=0) > SLEEP:
            time.sleep((mine.max() - SLEEP) / 1000)
        answer = evaluate(seed, outputs, [s[:, :1] if s.dtype == np.int64 else s for s in sources])
        answer[mine == NAN] = np.nan
        return answer

    return predict
