"""Fusion rules, pure torch: what turns many members' outputs into one.

Names load on first use, from where the stub beside this file says: checking a spec does not pay for importing torch.
"""

from quorate.fusion.extras import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
