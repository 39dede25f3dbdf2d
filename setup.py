"""The packages, by their rooms: ``fusion/rules`` is ``quorate.fusion.rules``. The rest stands in pyproject.toml."""

from setuptools import find_packages, setup

FLOORS = ("cluster", "deployments", "fusion", "tuning")

rooms = find_packages(include=[f"{floor}*" for floor in FLOORS])
setup(packages=["quorate", *(f"quorate.{package}" for package in rooms)])
