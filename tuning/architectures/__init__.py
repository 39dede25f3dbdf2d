"""Networks that a spec's ``model`` may name: ``quorate.tuning.architectures:build``, ``:head`` and ``:trunk``."""

from quorate.tuning.architectures.heads import head, trunk
from quorate.tuning.architectures.networks import build

__all__ = ["build", "head", "trunk"]
