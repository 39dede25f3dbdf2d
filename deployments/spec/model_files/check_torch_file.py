"""A file of PyTorch's where one is asked for: told from its layout, so that nobody waits for PyTorch to say it."""

from __future__ import annotations

from pathlib import Path

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.model_files.torch_files import foreign_class, kind_of, why_not_run
from quorate.deployments.spec.model_formats import convert_command

_KINDS = {
    "TorchScript": "a TorchScript program",
    "torch.export": "a torch.export program (.pt2)",
    "torch.save": "a checkpoint of torch.save",
    "other": "no file that torch writes",
}


def check_torch_file(field: str, name: str, path: Path, model: bool) -> None:
    """Refuse what is no TorchScript program as a model, and what is no state, or needs a pickle's code, as weights.

    Args:
        name: the file as the spec has it.
        model: whether it is named as a model.

    Raises:
        SpecError: says what it is, and what to do.
    """
    kind = kind_of(path)
    of_class = foreign_class(path) if kind == "torch.save" else None
    if kind == "pickle" or of_class:
        found = f"{name} is a pickle{f' of {of_class}' if of_class else ''}, which may run code when it is read"
        fix = f"if you trust where it is from, {convert_command(name)}"
        raise SpecError(field, found, f"{fix}, and give that as weights of a factory" if model else fix)
    if model and kind != "TorchScript":
        fix = "name the factory of its module as model, and this file as weights"
        raise SpecError(field, f"{name} is {_KINDS[kind]}, no TorchScript program", fix)
    if model and (reason := why_not_run(path)):
        raise SpecError(field, f"{name} may not be run: {reason}", "export it again, without that")
    if not model and kind != "torch.save":
        raise SpecError(field, f"{name} is {_KINDS[kind]}", "save module.state_dict() with torch.save")
