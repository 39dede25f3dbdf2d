"""From a rule's name in a spec to its class, and to the rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from torch import Tensor

from quorate.fusion.base import Rule
from quorate.fusion.features.base import FeatureRule
from quorate.fusion.registry import PATTERNS, RULES
from quorate.fusion.rules.weight_patterns import Patterned, read_patterns
from quorate.fusion.sequences.span_vote import SpanVote


def build_rule(
    name: str,
    members: Sequence[str],
    weights: Mapping[str, float] | None,
    options: Mapping[str, Any],
    state: Mapping[str, Tensor] | None = None,
    classes: Sequence[str] = (),
) -> Rule:
    """A rule over members' outputs, from the fields of a spec as ``Rule.from_spec`` takes them, with its patterns.

    Args:
        classes: names, for a rule that reads what they say.

    Raises:
        RuleOptionError: a field that the rule does not read, or a value it cannot use.
    """
    if RULES[name].sequences:
        return SpanVote.of_classes(members, weights, options, classes)
    patterned = PATTERNS in options and PATTERNS in RULES[name].options
    own = {option: value for option, value in options.items() if not patterned or option != PATTERNS}
    rule = load_rule(name).from_spec(members, weights, own, state)
    return Patterned(rule, read_patterns(name, members, options[PATTERNS])) if patterned else rule


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
