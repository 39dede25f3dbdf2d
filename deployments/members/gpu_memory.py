"""How much of a GPU's memory a replica that shares it may use, and the cap that keeps it to that."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# What CUDA and its libraries hold for a process beside what torch allocates for it: `make gpu` measures it.
CONTEXT_BYTES = 640 << 20


def allowed_bytes(num_gpus: float, total_bytes: float) -> float:
    """What torch may allocate for a replica that holds a part of a GPU: that part of its memory, less the context.

    Parts of a GPU add up to one, and so do those of its memory: who keeps to its own pushes out nobody.
    """
    if num_gpus >= 1:
        return total_bytes - CONTEXT_BYTES
    return max(num_gpus * total_bytes - CONTEXT_BYTES, 0.0)


def cap_memory(num_gpus: float) -> None:
    """Have torch fail in this process, with an error that costs the rows at hand, where it would take more.

    Not so a whole GPU's, which nobody shares, and a machine without one.
    """
    import torch  # whoever only plans does without

    if not 0 < num_gpus < 1 or not torch.cuda.is_available():
        return
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(allowed_bytes(num_gpus, total) / total, 0)


def peak_bytes(device: torch.device) -> int:
    """The most that torch has held of a GPU for this process so far; 0 of a CPU."""
    import torch

    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
