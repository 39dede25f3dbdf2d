"""Programs that torch.export has saved, ``.pt2``."""

from __future__ import annotations

import torch
from torch import nn

from quorate.deployments.sources.export_archive import UnsafeArchiveError, check_archive
from quorate.deployments.sources.model import Model
from quorate.deployments.sources.request import LoadRequest


def load(request: LoadRequest) -> Model:
    """Load the program of a file that holds no pickle."""
    path = request.path
    try:
        check_archive(path)
    except UnsafeArchiveError as error:
        raise request.error(
            f"{path.name} is no torch.export program that may be loaded: {error}",
            "save it again, with torch.export.save",
        ) from None
    try:
        program = torch.export.load(str(path))
    except Exception as error:  # torch raises whatever its zip and flatbuffer readers raise
        raise request.error(f"{path.name} is no torch.export program: {error}", "save it again") from None
    if request.device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, request.device)
    module: nn.Module = program.module()
    return request.model(module, tensors=True)
