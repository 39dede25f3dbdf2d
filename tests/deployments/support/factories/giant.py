"""A model that answers each row with far more than anybody wants, when the row says so."""

import numpy as np


def giant(nbytes):
    def predict(rows):
        width = nbytes // 4 if rows.any() else 1
        return np.zeros((len(rows), width), np.float32)

    return predict
