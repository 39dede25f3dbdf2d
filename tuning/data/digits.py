"""scikit-learn's bundled handwritten digits, split."""

from __future__ import annotations

import numpy as np

from quorate.tuning.data.labelled import Labelled, Splits, split


def digits(seed: int = 0) -> Splits:
    """scikit-learn's bundled handwritten digits (UCI optdigits): 1,797 images (1, 8, 8), 60/20/20, pixels 0 to 1."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[:, None] / 16.0).astype(np.float32)
    data = Labelled({"image": images}, bunch.target.astype(np.int64), tuple(str(c) for c in range(10)))
    return split(data, seed=seed)
