"""A loaded model, called on NumPy arrays."""

# B batch, C classes

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from quorate.deployments.rows.example import example_rows
from quorate.deployments.sources.named_inputs import by_names
from quorate.deployments.sources.outputs import as_array, pick
from quorate.deployments.sources.preprocessing import Preprocessing
from quorate.deployments.sources.torch_layers import code_of_others, without_hooks
from quorate.deployments.spec.model_files.example_content import content_of
from quorate.deployments.spec.schema import MemberSpec, TensorSpec

Array = NDArray[Any]


class Model:
    """One loaded member.

    Attributes:
        name: the member's name.
        device: where it runs.
        classes: what the model itself calls its output's columns, in their order, where it says so; of one that gives
            rows of names and numbers known once it has run.
        content: a text that the model can read, by input, where it reads only some.
        at_once: how many batches it can have under way; several for one that only waits for another server.
        pid: of the process that runs it, where that is another.
    """

    def __init__(
        self,
        name: str,
        spec: MemberSpec,
        function: Callable[..., Any],
        device: torch.device,
        tensors: bool,
        classes: tuple[str, ...] | None = None,
        folder: Path = Path(),
        batch: int | None = None,
        dtypes: Sequence[torch.dtype] | None = None,
        preprocessing: Preprocessing | None = None,
    ):
        self.name, self.device, self.classes = name, device, classes
        self._spec, self._function, self._tensors, self._folder = spec, function, tensors, folder
        self._preprocessing = preprocessing or Preprocessing(spec.inputs, {}, folder, spec.input_names)
        self._call = by_names(function, self._preprocessing.names, named=bool(spec.input_names))
        self._batch = batch
        of_module = _float_dtype(function) if isinstance(function, nn.Module) else None
        self._dtypes = list(dtypes) if dtypes is not None else [of_module] * len(self._preprocessing.names)
        # An output of this type is the one that is meant.
        self._only = torch.Tensor if spec.output_name is None else None
        self.content: Mapping[str, str] = {}
        self.at_once = 1
        self.pid: int | None = None
        self._check: Callable[[Mapping[str, Array]], None] | None = None

    @property
    def module(self) -> nn.Module | None:
        """The network, where the model is one and no other callable."""
        return self._function if isinstance(self._function, nn.Module) else None

    def checked_by(self, check: Callable[[Mapping[str, Array]], None]) -> None:
        """Have each batch, by the model's names, looked at by ``check``, which raises for what it was not made for."""
        self._check = check

    def predict(self, inputs: Mapping[str, Array]) -> Array:
        """Run the model once.

        Args:
            inputs: each of the member's inputs, (B, *shape).

        Returns:
            (B, ...) the output that the spec means, on the CPU.

        Raises:
            BadRowsError: naming rows that cannot be read.
            OutputError: there is no such output.
        """
        arrays = self.arrays(inputs)
        if self._batch is None or len(arrays[0]) == self._batch:
            return self._run(arrays)
        starts = range(0, len(arrays[0]), self._batch)
        parts = [self._run([_filled(a[at : at + self._batch], self._batch) for a in arrays]) for at in starts]
        return np.concatenate(parts)[: len(arrays[0])]

    def arrays(self, inputs: Mapping[str, Array]) -> list[Any]:
        """What the steps before the model make of a batch.

        Raises:
            BadRowsError: as of ``predict``.
        """
        if self._check is not None:
            self._check({self._spec.input_names.get(name, name): array for name, array in inputs.items()})
        return self._preprocessing(inputs)

    @property
    def network(self) -> nn.Module | None:
        """What takes tensors, where the model is a network that does, and is no more than that."""
        return self.module if self._tensors else None

    def host_tensors(self, inputs: Mapping[str, Array]) -> list[torch.Tensor]:
        """The same as the network's tensors, on the CPU yet, for whoever calls the network itself.

        Raises:
            BadRowsError: as of ``predict``.
        """
        return [_host_tensor(a, dtype) for a, dtype in zip(self.arrays(inputs), self._dtypes, strict=True)]

    def call_network(self, *tensors: torch.Tensor) -> torch.Tensor:
        """The output that the spec means, (B, ...), of the network's tensors on its device.

        Raises:
            OutputError: there is none.
        """
        found: torch.Tensor = pick(self._call(*tensors), self._spec)
        return found

    def run_network(self, *tensors: torch.Tensor) -> torch.Tensor:
        """The same, called as it is: nothing can be put in the place of its parameters for the call."""
        output = self._direct(*tensors)
        found: torch.Tensor = output if type(output) is self._only else pick(output, self._spec)
        return found

    @cached_property
    def _direct(self) -> Callable[..., Any]:
        network = self.network if self._call is self._function else None
        return self._call if network is None or code_of_others(network) else without_hooks(network)

    def _run(self, arrays: Sequence[Any]) -> Array:
        if torch.is_inference_mode_enabled():
            return self._inferred(arrays)
        with torch.inference_mode():
            return self._inferred(arrays)

    def _inferred(self, arrays: Sequence[Any]) -> Array:
        if self._tensors:
            arrays = [self._tensor(a, dtype) for a, dtype in zip(arrays, self._dtypes, strict=True)]
        array, classes = as_array(self.run_network(*arrays) if self._tensors else pick(self._call(*arrays), self._spec))
        self.classes = classes or self.classes
        return array

    def _tensor(self, array: Array, dtype: torch.dtype | None) -> Any:
        if array.dtype == object:  # BYTES stay what they are: tokenising is the model's business
            return array
        tensor = _host_tensor(array, dtype)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def example(self, inputs: Mapping[str, TensorSpec], rows: int, lengths: str | None = None) -> dict[str, Array]:
        """The member's request inputs; see ``example_rows``."""
        read = {name: inputs[name] for name in self._spec.inputs if name in inputs}
        return example_rows(read, rows, self._folder, lengths, {**content_of([self._spec]), **self.content})


def _host_tensor(array: Array, dtype: torch.dtype | None) -> torch.Tensor:
    # torch warns about read-only arrays although nothing here writes to them.
    array = array if array.flags.writeable else array.copy()
    if array.dtype == ml_dtypes.bfloat16:  # NumPy's bfloat16 is an extension type that torch does not know
        tensor = torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(array)
    wanted = tensor.dtype != dtype and dtype in _FLOATS and tensor.dtype in _FLOATS
    return tensor.to(dtype) if wanted else tensor


def _filled(rows: Array, count: int) -> Array:
    """(count, ...) the rows, the last of them again where there are fewer."""
    return np.concatenate([rows, np.repeat(rows[-1:], count - len(rows), axis=0)]) if len(rows) < count else rows


# What requests and modules may both have; float64 rows are never made less exact.
_FLOATS = (torch.float16, torch.bfloat16, torch.float32)


def _float_dtype(module: nn.Module) -> torch.dtype | None:
    """The type that floating inputs are given: the one of all floating parameters; None where there are several."""
    found = {parameter.dtype for parameter in module.parameters() if parameter.dtype.is_floating_point}
    return found.pop() if len(found) == 1 and found <= set(_FLOATS) else None
