"""Members that classify alike, each a little in its own way, until a row says that one of them is broken."""

import numpy as np

CLASSES = ("red", "green", "blue")


def softmax(scores):
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def drifting(number):
    """Reads (B, 4): scores of three classes, and the number of the member that is broken; 0 is none."""

    def predict(rows):
        scores = rows[:, :3] + 0.5 * np.sin(7 * (number + 1) * rows[:, :3])
        broken = rows[:, 3] == number
        scores[broken] = np.roll(scores[broken], 1, axis=1)
        return softmax(scores).astype(np.float32)

    return predict
