"""Which Kubernetes nodes have an accelerator that Ray knows by a type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quorate.deployments.errors import DeployError

_PRODUCT = "nvidia.com/gpu.product"
# Ray's type (ray.util.accelerators) and what NVIDIA's GPU feature discovery then says is in a node.
_PRODUCTS = {
    "T4": ("Tesla-T4",),
    "V100": ("Tesla-V100-SXM2-16GB", "Tesla-V100-SXM2-32GB", "Tesla-V100-PCIE-16GB", "Tesla-V100-PCIE-32GB"),
    "A10G": ("NVIDIA-A10G",),
    "L4": ("NVIDIA-L4",),
    "L40S": ("NVIDIA-L40S",),
    "A100": ("NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-PCIE-40GB", "NVIDIA-A100-80GB-PCIe"),
    "A100-40G": ("NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-PCIE-40GB"),
    "A100-80G": ("NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe"),
    "H100": ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe", "NVIDIA-H100-NVL"),
    "H200": ("NVIDIA-H200", "NVIDIA-H200-NVL"),
    "B200": ("NVIDIA-B200",),
}


def node_affinity(accelerator_type: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """A pod's ``affinity`` for nodes with an accelerator.

    Args:
        labels: for a type the node label of the operator's own cluster, as ``key=value``.

    Raises:
        DeployError: nobody has said which nodes these are.
    """
    if accelerator_type in labels:
        key, _, value = labels[accelerator_type].partition("=")
        values: tuple[str, ...] = (value,)
    elif accelerator_type in _PRODUCTS:
        key, values = _PRODUCT, _PRODUCTS[accelerator_type]
    else:
        fix = f"say which label they have: --accelerator {accelerator_type}=KEY=VALUE"
        raise DeployError(f"accelerator_type {accelerator_type} has no nodes that are known; {fix}")
    terms = [{"matchExpressions": [{"key": key, "operator": "In", "values": list(values)}]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
