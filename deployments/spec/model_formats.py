"""How a spec names a member's model: by a file of a known format, or by a factory to import.

A new format is an entry here and a loader in ``members.loading``.
"""

from __future__ import annotations

from dataclasses import dataclass

from quorate.deployments.spec.schema import MemberSpec


@dataclass(frozen=True)
class ModelFormat:
    """One way to give a model.

    Attributes:
        suffix: of its files, which hold the network and its weights; empty for what is imported.
    """

    name: str
    suffix: str = ""


TORCH_EXPORT = ModelFormat("torch.export", ".pt2")
ONNX = ModelFormat("ONNX", ".onnx")
FACTORY = ModelFormat("factory")  # package.module:factory, with weights in a file of its own

FILE_FORMATS = (TORCH_EXPORT, ONNX)
WEIGHTS_SUFFIX = ".safetensors"


def format_of(model: str) -> ModelFormat:
    """The format that a member's ``model`` is written in."""
    return next((known for known in FILE_FORMATS if model.endswith(known.suffix)), FACTORY)


def checkpoint_of(member: MemberSpec) -> str | None:
    """The path of the file that holds the member's weights; None for a factory that needs none."""
    return member.weights if format_of(member.model) is FACTORY else member.model


def factory_of(model: str) -> tuple[str, str]:
    """Module and attribute of ``package.module:factory``; the attribute is empty where there is no colon."""
    module, _, attribute = model.partition(":")
    return module, attribute
