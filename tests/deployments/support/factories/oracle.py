"""Members whose answers are known functions of a unique request number, and that do what a row tells them to.

A row is three integers: its number, a command, and a bit mask of the members that the command is meant for.
"""

# B rows

import ctypes
import os
import signal
import time
from pathlib import Path

import numpy as np

NONE, RAISE, NAN, INFINITY, WRONG_SHAPE, DIE, SPIN, HOLD, ANOTHER = range(9)  # ANOTHER: answer another request's row
SLEEP = 1000  # SLEEP + n: sleep n milliseconds
CLASSES = 4
_SPAN = 1 << 20
# Odd multipliers make each a bijection of 20-bit numbers: no two requests share an answer.
_MULTIPLIERS = np.array([[7, 1_048_573, 331_777], [29, 524_287, 65_537], [104_729, 15_485_863, 3], [101, 999_983, 17]])


def shares(numbers, member):
    """(B, 4) float32 of member number ``member``: exact multiples of 2**-22 that sum to one."""
    first = (numbers[:, None] * _MULTIPLIERS[member] + 7919 * member) % _SPAN / (4 * _SPAN)
    return np.concatenate([first, 1 - first.sum(axis=1, keepdims=True)], axis=1).astype(np.float32)


def spin(seconds):
    """Compute in Python."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def numbered(member, log="", broken="", keep=False, loading_s=0, **_kept_apart):
    """Obeys the commands; appends a line ``pid number`` per row to ``log`` before it starts on a batch.

    Raises for every row while there is a file ``broken`` of the member's letter. With ``keep`` it leaks its rows.
    It takes ``loading_s`` to load.
    """
    time.sleep(loading_s)
    kept = []

    def predict(rows):
        if broken and Path(broken).name == "abcd"[member] and Path(broken).exists():
            raise RuntimeError("broken")
        if keep:
            kept.append(rows)
        if log and rows[:, 0].any():
            with Path(log).open("a") as file:
                file.writelines(f"{os.getpid()} {number}\n" for number in rows[:, 0])
        mine = rows[:, 1] * (rows[:, 2] >> member & 1)
        if (mine == RAISE).any():
            raise ValueError("told to")
        if (mine == WRONG_SHAPE).any():
            return np.zeros((len(rows), CLASSES - 1), np.float32)
        if (mine == DIE).any():
            signal.raise_signal(signal.SIGSEGV)  # in this thread: it gets no further
        if (mine == SPIN).any():
            spin(10)
        if (mine == HOLD).any():  # a foreign call that does not let go of the interpreter
            ctypes.PyDLL(None).sleep(10)
        if mine.max(initial=0) > SLEEP:
            time.sleep((mine.max() - SLEEP) / 1000)
        answer = shares(rows[:, 0] - (mine == ANOTHER), member)
        answer[mine == NAN] = np.nan
        answer[mine == INFINITY, 1] = np.inf
        return answer

    return predict


def unstartable(attempts, dies=False, **_kept_apart):
    """Raises, or takes its process with it, each time; appends a line to ``attempts`` before."""
    with Path(attempts).open("a") as file:
        file.write(f"{os.getpid()}\n")
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    raise RuntimeError("told to")
