"""The last step of the Triton ensemble: the mean of what the members gave."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self._inputs = [tensor["name"] for tensor in json.loads(args["model_config"])["input"]]

    def execute(self, requests):
        members = [
            np.concatenate([pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests])
            for name in self._inputs
        ]
        mean = np.mean(members, axis=0)
        rows = [len(pb_utils.get_input_tensor_by_name(request, self._inputs[0]).as_numpy()) for request in requests]
        parts = np.split(mean, np.cumsum(rows)[:-1])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("fused", part)]) for part in parts]
