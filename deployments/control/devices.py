"""What a Ray cluster on one machine offers."""

from __future__ import annotations

from quorate.deployments.control.ray_private import count_gpus

LOGICAL_GPUS = 8


def logical_gpus() -> int | None:
    """GPUs to start Ray with: those of the machine (None), or logical ones, so that the same spec runs on the CPU."""
    return None if count_gpus() else LOGICAL_GPUS
