"""What a spec's ``model`` may name: ``quorate.tuning.architectures:build``, ``:head``, ``:trunk`` and ``:trees``."""

from quorate.tuning.architectures.heads import head, trunk
from quorate.tuning.architectures.networks import build
from quorate.tuning.architectures.trees import trees

# As a spec names them.
BUILD, HEAD, TRUNK, TREES = (f"{__name__}:{factory.__name__}" for factory in (build, head, trunk, trees))

__all__ = ["BUILD", "HEAD", "TREES", "TRUNK", "build", "head", "trees", "trunk"]
