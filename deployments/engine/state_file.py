"""What rules and calibrations have learned, out of the files that a spec names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from quorate.deployments.errors import SpecError


def load_state(path: str, folder: Path) -> Mapping[str, torch.Tensor]:
    """What a rule or a calibration has learned: tensors by name.

    Args:
        path: of a safetensors file, from ``folder``.

    Raises:
        SpecError: the file cannot be read, or is of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(folder / path)
    except OSError:  # its text has the whole path, and clients may read ours
        raise SpecError(path, "cannot be read", "put the file there, readable") from None
    except SafetensorError as error:
        raise SpecError(path, f"cannot be read ({error})", "save it with safetensors again") from None
