"""TorchScript programs, ``.pt`` files of ``torch.jit.save``."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from quorate.deployments.sources.model import Model
from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.spec.model_files.torch_files import why_not_run


def load(request: LoadRequest) -> Model:
    """Load the program of a file whose code opens no others; already loading it may run some of that.

    Raises:
        MemberLoadError: it is none, or could open files.
    """
    if reason := why_not_run(request.path):
        raise request.error(
            f"{request.path.name} is no TorchScript program that may be run: {reason}", "export it again"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.export is what to use for new models
            module: nn.Module = torch.jit.load(str(request.path), request.device)  # type: ignore[no-untyped-call]
    except Exception as error:  # torch raises whatever its readers raise
        found = f"{request.path.name} is no TorchScript program: {error}"
        raise request.error(" ".join(found.split())[:300], "save it again, with torch.jit.save") from None
    request.check_names(module)
    return request.model(module.eval(), tensors=True)
