"""What inputs hold when a model is tried before anybody asks it, where zeros would be nothing that it can read."""

from __future__ import annotations

from collections.abc import Iterable

from quorate.deployments.spec.model_formats import format_of
from quorate.deployments.spec.schema import EnsembleSchema, MemberSpec

# A text that is a picture too, a black pixel in the plain form of PPM: something for whatever reads content.
CONTENT = "P3 1 1 255 0 0 0"


def can_be_made(spec: EnsembleSchema) -> bool:
    """Whether there is an example of each text that a member may know only some values of."""
    own = {name for member in spec.members.values() if format_of(member.model).own_texts for name in member.inputs}
    texts = {name for name, tensor in spec.inputs.items() if tensor.datatype == "BYTES" and tensor.example is None}
    return not own & texts


def content_of(members: Iterable[MemberSpec]) -> dict[str, str]:
    """What is in inputs that are text, encoded pictures or sound to their readers, or the first of their categories."""
    found: dict[str, str] = {}
    for member in members:
        found |= dict.fromkeys(member.inputs, CONTENT) if format_of(member.model).media else {}
        for name, step in member.preprocess.items():
            categories = step.one_hot or step.categories
            found |= {name: categories[0]} if categories else {name: CONTENT} if step.step != "standardise" else {}
    return found
