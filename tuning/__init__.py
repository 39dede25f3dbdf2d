"""Tuning: train members, keep their predictions, solve the fusion's weights, search structure.

Names load on first use, from where the stub beside this file says: the command line starts without torch or Ray.
"""

from quorate.fusion.extras import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
