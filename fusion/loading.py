"""From a rule's name in a spec to its class."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from quorate.fusion.base import Rule
from quorate.fusion.features.base import FeatureRule
from quorate.fusion.registry import RULES


def load_rule(name: str) -> type[Rule]:
    """The class of a rule over members' outputs; ``name`` is a key of ``RULES``."""
    loaded: type[Rule] = _load(name)
    return loaded


def load_feature_rule(name: str) -> type[FeatureRule]:
    """The class of a rule that reads features: another contract than ``Rule``."""
    loaded: type[FeatureRule] = _load(name)
    return loaded


def _load(name: str) -> Any:
    module, _, attribute = RULES[name].target.partition(":")
    return getattr(import_module(module), attribute)
