"""What rules there are, without importing torch: a spec is checked against this table in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quorate.fusion.base import Rule


@dataclass(frozen=True)
class RuleEntry:
    """Where a rule lives and what its spec may say.

    Attributes:
        target: ``module:Class``.
        options: names allowed under ``options`` in the spec.
        weighted: the rule reads ``weights``.
        reads: member outputs it accepts, in the spec's words.
    """

    target: str
    options: tuple[str, ...] = ()
    weighted: bool = False
    reads: tuple[str, ...] = ("logits", "probabilities")

    def load(self) -> type[Rule]:
        module, _, name = self.target.partition(":")
        loaded: Any = getattr(import_module(module), name)
        return loaded  # type: ignore[no-any-return]


RULES: dict[str, RuleEntry] = {
    "mean": RuleEntry("quorate.fusion.linear_pool:Mean", reads=("logits", "probabilities", "values")),
    "weighted_mean": RuleEntry(
        "quorate.fusion.linear_pool:WeightedMean", weighted=True, reads=("logits", "probabilities", "values")
    ),
}
