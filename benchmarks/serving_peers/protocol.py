"""What the peers' hand-written doors read and write: the same Open Inference Protocol bodies as Quorate's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_rows(body: dict[str, Any]) -> NDArray[np.float32]:
    tensor = body["inputs"][0]
    return np.array(tensor["data"], np.float32).reshape(tensor["shape"])


def answer(values: NDArray[np.float32]) -> dict[str, Any]:
    tensor = {"name": "fused", "datatype": "FP32", "shape": list(values.shape), "data": values.ravel().tolist()}
    return {"model_name": "mlps", "model_version": "1", "outputs": [tensor]}
