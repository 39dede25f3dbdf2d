"""What rules there are, without importing torch: a spec is checked against this table in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

# Of every rule that gives probabilities: weights for rows that only some members answered.
PATTERNS = "patterns"


@dataclass(frozen=True)
class RuleEntry:
    """Where a rule lives and what its spec may say.

    Attributes:
        target: ``module:Class``.
        own_options: names allowed under ``options`` in the spec that the rule itself reads.
        weighted: the rule reads ``weights``.
        needs_weights: it has no default for them; the rule to use without. "" for a rule that has one.
        reads: member outputs it accepts, in the spec's words.
        learned: it has trained parameters, so a spec must name their file under ``state``.
        steered: it decides whom to ask before or between the calls.
        reads_inputs: the request input that its option ``input_name`` names.
        decides: it gives decisions, instead of probabilities.
        sequences: it reads whole sequences of tokens, whose classes are tags, and the names of these.
        ascending: the numbers of its answer ascend, as quantiles do.
        lists: the rows of a request are one list, which it ranks: an answer's rows depend on each other.
        moments: members and answer are K means and behind them their K variances.
        reliabilities: its weights count by themselves, each from 0 to 1; of other rules' only the ratios do.
    """

    target: str
    own_options: tuple[str, ...] = ()
    weighted: bool = False
    needs_weights: str = ""
    reads: tuple[str, ...] = ("logits", "probabilities")
    learned: bool = False
    steered: bool = False
    reads_inputs: bool = False
    decides: bool = False
    sequences: bool = False
    ascending: bool = False
    lists: bool = False
    moments: bool = False
    reliabilities: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """Names allowed under ``options`` in the spec."""
        pooled = "probabilities" in self.reads and not self.steered and not self.decides
        return (*self.own_options, PATTERNS) if pooled else self.own_options


RULES: dict[str, RuleEntry] = {
    "mean": RuleEntry("quorate.fusion.rules.linear_pool:Mean", reads=("logits", "probabilities", "values")),
    "weighted_mean": RuleEntry(
        "quorate.fusion.rules.linear_pool:WeightedMean",
        weighted=True,
        needs_weights="mean",
        reads=("logits", "probabilities", "values"),
    ),
    "geometric_mean": RuleEntry("quorate.fusion.rules.geometric_mean:GeometricMean", ("floor",), weighted=True),
    "product": RuleEntry("quorate.fusion.rules.product:Product"),
    "maximum": RuleEntry("quorate.fusion.rules.order_statistics:Maximum"),
    "minimum": RuleEntry("quorate.fusion.rules.order_statistics:Minimum"),
    "median": RuleEntry("quorate.fusion.rules.order_statistics:Median"),
    "trimmed_mean": RuleEntry("quorate.fusion.rules.order_statistics:TrimmedMean", ("proportion",)),
    "majority_vote": RuleEntry("quorate.fusion.rules.voting:MajorityVote", ("tie",)),
    "weighted_vote": RuleEntry(
        "quorate.fusion.rules.voting:WeightedVote", ("tie",), weighted=True, needs_weights="majority_vote"
    ),
    "soft_vote": RuleEntry("quorate.fusion.rules.voting:SoftVote", ("tie",), weighted=True),
    "threshold": RuleEntry(
        "quorate.fusion.rules.threshold:Threshold", ("threshold", "at_least", "reject"), weighted=True, decides=True
    ),
    "span_vote": RuleEntry(
        "quorate.fusion.sequences.span_vote:SpanVote",
        ("threshold", "tie", "prefer"),
        weighted=True,
        decides=True,
        sequences=True,
    ),
    "borda": RuleEntry("quorate.fusion.rules.ranking:Borda", weighted=True),
    "reciprocal_rank": RuleEntry("quorate.fusion.rules.ranking:ReciprocalRank", ("k",), weighted=True),
    "bayesian_model_averaging": RuleEntry(
        "quorate.fusion.rules.bayesian:BayesianModelAveraging", ("log_evidence",), weighted=True
    ),
    "bayesian_model_combination": RuleEntry(
        "quorate.fusion.rules.bayesian:BayesianModelCombination", weighted=True, needs_weights="mean"
    ),
    "dempster_shafer": RuleEntry(
        "quorate.fusion.rules.dempster_shafer:DempsterShafer", weighted=True, reliabilities=True
    ),
    "regression_median": RuleEntry("quorate.fusion.rules.regression:RegressionMedian", reads=("values",)),
    "inverse_variance": RuleEntry(
        "quorate.fusion.rules.regression:InverseVariance", weighted=True, reads=("values",), moments=True
    ),
    "mixture_moments": RuleEntry(
        "quorate.fusion.rules.regression:MixtureMoments", weighted=True, reads=("values",), moments=True
    ),
    "quantile_average": RuleEntry(
        "quorate.fusion.rules.regression:QuantileAverage", weighted=True, reads=("values",), ascending=True
    ),
    "quantile_median": RuleEntry("quorate.fusion.rules.regression:QuantileMedian", reads=("values",), ascending=True),
    "list_reciprocal_rank": RuleEntry(
        "quorate.fusion.rules.lists:ListReciprocalRank", ("k",), weighted=True, reads=("values",), lists=True
    ),
    "list_borda": RuleEntry("quorate.fusion.rules.lists:ListBorda", weighted=True, reads=("values",), lists=True),
    "list_standard_scores": RuleEntry(
        "quorate.fusion.rules.lists:ListStandardScores", weighted=True, reads=("values",), lists=True
    ),
    "concat": RuleEntry("quorate.fusion.features.concat:Concat", ("widths", "layout"), reads=("features",)),
    "feature_mean": RuleEntry(
        "quorate.fusion.features.mean:FeatureMean", ("widths", "width"), weighted=True, reads=("features",)
    ),
    "feature_attention": RuleEntry(
        "quorate.fusion.features.attention:FeatureAttention", ("widths", "width", "heads"), reads=("features",)
    ),
    "gated_fusion": RuleEntry("quorate.fusion.features.gated:GatedFusion", ("widths", "width"), reads=("features",)),
    "bilinear_fusion": RuleEntry(
        "quorate.fusion.features.bilinear:BilinearFusion", ("widths", "width", "rank"), reads=("features",)
    ),
    "stacking": RuleEntry("quorate.fusion.learned.stacking:Stacking", ("over", "hidden"), learned=True),
    "output_attention": RuleEntry("quorate.fusion.learned.output_attention:OutputAttention", ("over",), learned=True),
    "gate": RuleEntry(
        "quorate.fusion.learned.gate:Gate",
        ("top_k", "input_name", "hidden"),
        learned=True,
        steered=True,
        reads_inputs=True,
    ),
    "dynamic_selection": RuleEntry(
        "quorate.fusion.learned.dynamic_selection:DynamicSelection",
        ("top_k", "input_name", "neighbours", "select"),
        learned=True,
        steered=True,
        reads_inputs=True,
    ),
    "meta_des": RuleEntry(
        "quorate.fusion.learned.meta_des:MetaDes",
        ("input_name", "neighbours", "alike"),
        learned=True,
        steered=True,
        reads_inputs=True,
    ),
    "bandit": RuleEntry(
        "quorate.fusion.learned.bandit:Bandit",
        ("first", "arms", "costs", "price", "explore", "max_loss", "confidence"),
        learned=True,
        steered=True,
    ),
    "cascade": RuleEntry(
        "quorate.fusion.learned.cascade:Cascade", ("stages", "thresholds", "measure"), weighted=True, steered=True
    ),
}
