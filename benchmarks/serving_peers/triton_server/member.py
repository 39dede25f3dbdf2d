"""A member of the Triton ensemble, for its Python backend: what the dynamic batcher hands over, in one forward pass."""

import json

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from mlp import build, probabilities


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        torch.set_num_threads(1)
        self._model = build(*(int(parameters[name]["string_value"]) for name in ("seed", "features")))

    def execute(self, requests):
        rows = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        values = probabilities(self._model, np.concatenate(rows))
        parts = np.split(values, np.cumsum([len(part) for part in rows])[:-1])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("probabilities", part)]) for part in parts]
