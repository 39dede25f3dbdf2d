"""Members that fail with all that nobody should hear of."""

import os
import socket
from pathlib import Path

import numpy as np


def telling(way):
    def predict(x):
        if not x.any():  # the example that a member is tried with
            return np.full((len(x), 3), 1 / 3, dtype=np.float32)
        secret = f"{Path.cwd()}/secret.safetensors on {socket.gethostname()} of {os.getpid()}"
        match way:
            case "file":
                raise FileNotFoundError(2, "No such file or directory", secret)
            case "shape":
                return np.zeros((len(x), 7), dtype=np.float32)
            case _:
                raise RuntimeError(secret)

    return predict
