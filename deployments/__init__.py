"""Members and fusion as Ray Serve deployments, and the doors clients come in by.

Names load on first use, from where the stub beside this file says: checking a spec pays for neither torch nor Ray.
"""

from quorate.fusion.extras import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
