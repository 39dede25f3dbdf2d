"""A loaded model, called on NumPy arrays."""

# B batch, C classes

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from quorate.deployments.spec.schema import MemberSpec, TensorSpec
from quorate.deployments.wire.example import example_rows

Array = NDArray[Any]


class Model:
    """One loaded member.

    Attributes:
        name: the member's name.
        device: where it runs.
    """

    def __init__(self, name: str, spec: MemberSpec, function: Callable[..., Any], device: torch.device, tensors: bool):
        self.name, self.device = name, device
        self._spec, self._function, self._tensors = spec, function, tensors

    @property
    def module(self) -> nn.Module | None:
        """The network, where the model is one and no other callable."""
        return self._function if isinstance(self._function, nn.Module) else None

    def predict(self, inputs: Mapping[str, Array]) -> Array:
        """Run the model once.

        Args:
            inputs: each of the member's inputs, (B, *shape).

        Returns:
            (B, ...) whatever the model returns for it, on the CPU.
        """
        arrays = [inputs[name] for name in self._spec.inputs]
        with torch.inference_mode():
            output = self._function(*([self._tensor(a) for a in arrays] if self._tensors else arrays))
            if isinstance(output, torch.Tensor):
                output = output.float() if output.dtype in (torch.bfloat16, torch.float16) else output
                return output.cpu().numpy()
        return np.asarray(output)

    def _tensor(self, array: Array) -> Any:
        if array.dtype == object:  # BYTES stay what they are: tokenising is the model's business
            return array
        # torch warns about read-only arrays although nothing here writes to them.
        array = array if array.flags.writeable else array.copy()
        if array.dtype == ml_dtypes.bfloat16:  # NumPy's bfloat16 is an extension type that torch does not know
            tensor = torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
        else:
            tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def example(self, inputs: Mapping[str, TensorSpec], rows: int, lengths: str | None = None) -> dict[str, Array]:
        """Zeros in the shape of the member's request inputs; see ``example_rows``."""
        return example_rows({name: inputs[name] for name in self._spec.inputs if name in inputs}, rows, lengths)
