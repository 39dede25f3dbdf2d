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
        needs_weights: it has no default for them; the rule to use without. "" for a rule that has one.
        reads: member outputs it accepts, in the spec's words.
        learned: it has trained parameters, so a spec must name their file under ``state``.
        steered: it decides whom to ask before or between the calls.
        decides: it gives decisions, 0 or 1, instead of probabilities.
    """

    target: str
    options: tuple[str, ...] = ()
    weighted: bool = False
    needs_weights: str = ""
    reads: tuple[str, ...] = ("logits", "probabilities")
    learned: bool = False
    steered: bool = False
    decides: bool = False

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
        "quorate.fusion.linear_pool:WeightedMean",
        ("patterns",),
        weighted=True,
        needs_weights="mean",
        reads=("logits", "probabilities", "values"),
    ),
    "geometric_mean": RuleEntry("quorate.fusion.geometric_mean:GeometricMean", ("floor",), weighted=True),
    "product": RuleEntry("quorate.fusion.product:Product"),
    "maximum": RuleEntry("quorate.fusion.order_statistics:Maximum"),
    "minimum": RuleEntry("quorate.fusion.order_statistics:Minimum"),
    "median": RuleEntry("quorate.fusion.order_statistics:Median"),
    "trimmed_mean": RuleEntry("quorate.fusion.order_statistics:TrimmedMean", ("proportion",)),
    "majority_vote": RuleEntry("quorate.fusion.voting:MajorityVote", ("tie",)),
    "weighted_vote": RuleEntry(
        "quorate.fusion.voting:WeightedVote", ("tie",), weighted=True, needs_weights="majority_vote"
    ),
    "soft_vote": RuleEntry("quorate.fusion.voting:SoftVote", ("tie",), weighted=True),
    "threshold": RuleEntry(
        "quorate.fusion.threshold:Threshold", ("threshold", "at_least", "reject"), weighted=True, decides=True
    ),
    "borda": RuleEntry("quorate.fusion.ranking:Borda", weighted=True),
    "reciprocal_rank": RuleEntry("quorate.fusion.ranking:ReciprocalRank", ("k",), weighted=True),
    "bayesian_model_averaging": RuleEntry(
        "quorate.fusion.bayesian:BayesianModelAveraging", ("log_evidence",), weighted=True
    ),
    "bayesian_model_combination": RuleEntry(
        "quorate.fusion.bayesian:BayesianModelCombination", weighted=True, needs_weights="mean"
    ),
    "dempster_shafer": RuleEntry("quorate.fusion.dempster_shafer:DempsterShafer", weighted=True),
    "regression_median": RuleEntry("quorate.fusion.regression:RegressionMedian", reads=("values",)),
    "inverse_variance": RuleEntry("quorate.fusion.regression:InverseVariance", weighted=True, reads=("values",)),
    "mixture_moments": RuleEntry("quorate.fusion.regression:MixtureMoments", weighted=True, reads=("values",)),
    "quantile_average": RuleEntry("quorate.fusion.regression:QuantileAverage", weighted=True, reads=("values",)),
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
    "stacking": RuleEntry("quorate.fusion.stacking:Stacking", ("over", "hidden"), learned=True),
    "output_attention": RuleEntry("quorate.fusion.output_attention:OutputAttention", ("over",), learned=True),
    "gate": RuleEntry("quorate.fusion.gate:Gate", ("top_k", "input_name", "hidden"), learned=True, steered=True),
    "cascade": RuleEntry(
        "quorate.fusion.cascade:Cascade", ("stages", "thresholds", "measure"), weighted=True, steered=True
    ),
}
