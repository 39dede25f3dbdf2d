"""Networks that a spec's ``model`` may name: ``quorate.tuning.architectures:build``, ``:head`` and ``:trunk``."""

from quorate.tuning.architectures.heads import head, trunk
from quorate.tuning.architectures.networks import build

# As a spec names them.
BUILD, HEAD, TRUNK = (f"{__name__}:{factory.__name__}" for factory in (build, head, trunk))

__all__ = ["BUILD", "HEAD", "TRUNK", "build", "head", "trunk"]
