"""What a Ray cluster on one machine offers."""

from __future__ import annotations

LOGICAL_GPUS = 8


def logical_gpus() -> int | None:
    """GPUs to start Ray with: those of the machine (None), or logical ones, so that the same spec runs on the CPU."""
    from ray._private.accelerators import NvidiaGPUAcceleratorManager

    return None if NvidiaGPUAcceleratorManager.get_current_node_num_accelerators() else LOGICAL_GPUS
