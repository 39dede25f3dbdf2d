"""Which version is installed."""

from importlib.metadata import version

__version__: str = version("quorate")
