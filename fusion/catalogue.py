"""What rules there are, without importing torch: a spec is checked against this table in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quorate.fusion.base import Rule
    from quorate.fusion.features import FeatureRule


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

    def load_features(self) -> type[FeatureRule]:
        """The class of a rule that reads features: another contract than ``Rule``."""
        loaded: Any = self.load()
        return loaded  # type: ignore[no-any-return]


RULES: dict[str, RuleEntry] = {
    "mean": RuleEntry("quorate.fusion.linear_pool:Mean", reads=("logits", "probabilities", "values")),
    "weighted_mean": RuleEntry(
        "quorate.fusion.linear_pool:WeightedMean", weighted=True, reads=("logits", "probabilities", "values")
    ),
    "concat": RuleEntry("quorate.fusion.concat:Concat", ("widths", "layout"), reads=("features",)),
    "feature_mean": RuleEntry(
        "quorate.fusion.feature_mean:FeatureMean", ("widths", "width"), weighted=True, reads=("features",)
    ),
    "feature_attention": RuleEntry(
        "quorate.fusion.feature_attention:FeatureAttention", ("widths", "width", "heads"), reads=("features",)
    ),
    "gated_fusion": RuleEntry("quorate.fusion.gated_fusion:GatedFusion", ("widths", "width"), reads=("features",)),
    "bilinear_fusion": RuleEntry(
        "quorate.fusion.bilinear_fusion:BilinearFusion", ("widths", "width", "rank"), reads=("features",)
    ),
    "stacking": RuleEntry("quorate.fusion.stacking:Stacking", ("over", "hidden")),
    "output_attention": RuleEntry("quorate.fusion.output_attention:OutputAttention", ("over",)),
    "gate": RuleEntry("quorate.fusion.gate:Gate", ("top_k", "input_name", "hidden")),
    "cascade": RuleEntry("quorate.fusion.cascade:Cascade", ("stages", "thresholds", "measure"), weighted=True),
}
