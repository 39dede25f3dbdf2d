"""Quorate serves many models as one: deploy an ensemble, ask it, tune it, from Python as from the command line.

Names load on first use, from where the stub beside this file says.
"""

from pkgutil import extend_path

# In a checkout this folder holds the front door alone; the four packages are found where they were installed.
__path__ = extend_path(__path__, __name__)

from quorate.fusion.extras import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
