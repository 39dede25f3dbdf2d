"""A trained network in fewer bits: bfloat16, or int8 by torchao. The checkpoint it is loaded from stays float32."""

# B batch, C classes

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from torch import Tensor, nn

from quorate.tuning.errors import ArchitectureError

Format = Literal["fp32", "bf16", "int8"]
FORMATS: tuple[str, ...] = get_args(Format)


class InFormat(nn.Module):
    """Takes float32 weights and inputs, computes in its own format, and returns float32."""

    def __init__(self, network: nn.Module, numbers: str):
        """Args: network, not yet trained; numbers, bf16 or int8."""
        super().__init__()
        self.numbers = numbers
        self.network = network.bfloat16() if numbers == "bf16" else network

    def forward(self, *read: Tensor) -> Tensor:
        logits: Tensor = self.network(*(one.bfloat16() if self.numbers == "bf16" else one for one in read))
        return logits.float()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take the network's own, float32 weights and convert them.

        Linear layers become int8, each output with a scale of its own; activations get a scale per row as they come
        (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
        Inference", section 2). Convolutions and recurrent cells stay float32: torchao has nothing for them.
        """
        keys = self.network.load_state_dict(state_dict, strict=strict)
        if self.numbers == "int8":
            from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

            quantize_(self.network, Int8DynamicActivationInt8WeightConfig())
        return keys


def in_format(network: nn.Module, numbers: str) -> nn.Module:
    """The network as it is for fp32, else wrapped.

    Raises:
        ArchitectureError: an unknown format, or int8 without torchao.
    """
    if numbers not in FORMATS:
        raise ArchitectureError("config.format", f"{numbers!r} is unknown", f"give one of {', '.join(FORMATS)}")
    if numbers == "int8":
        try:
            import torchao  # noqa: F401
        except ImportError:
            fix = "pip install 'quorate[int8]' on every node"
            raise ArchitectureError("config.format", "int8 needs torchao, which is not installed", fix) from None
    return network if numbers == "fp32" else InFormat(network, numbers)


def parameter_bytes(model: nn.Module) -> int:
    """What the parameters and buffers take in memory."""
    return sum(_bytes(tensor) for tensor in [*model.parameters(), *model.buffers()])


def _bytes(tensor: Any) -> int:
    if hasattr(tensor, "__tensor_flatten__"):  # torchao's: a tensor of int8 and one of scales
        return sum(_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    return int(tensor.numel() * tensor.element_size())
