"""Fusion rules, pure torch: what turns many members' outputs into one.

Names load on first use, so that checking a spec does not pay for importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "BayesianModelAveraging": "rules.bayesian",
    "BayesianModelCombination": "rules.bayesian",
    "BilinearFusion": "features.bilinear",
    "Borda": "rules.ranking",
    "Calibration": "calibration.calibration",
    "Cascade": "learned.cascade",
    "Concat": "features.concat",
    "Decision": "calibration.decision",
    "DempsterShafer": "rules.dempster_shafer",
    "FeatureAttention": "features.attention",
    "FeatureMean": "features.mean",
    "FeatureRule": "features.base",
    "Fused": "base",
    "Gate": "learned.gate",
    "GatedFusion": "features.gated",
    "Generated": "sequences.generation",
    "GeometricMean": "rules.geometric_mean",
    "GreedySoup": "merging.soups",
    "InverseVariance": "rules.regression",
    "MEASURES": "evaluation.measures",
    "MajorityVote": "rules.voting",
    "Maximum": "rules.order_statistics",
    "Mean": "rules.linear_pool",
    "Median": "rules.order_statistics",
    "Minimum": "rules.order_statistics",
    "MixtureMoments": "rules.regression",
    "OutputAttention": "learned.output_attention",
    "Product": "rules.product",
    "QuantileAverage": "rules.regression",
    "QuorateError": "errors",
    "RULES": "registry",
    "ReciprocalRank": "rules.ranking",
    "RegressionMedian": "rules.regression",
    "Route": "learned.gate",
    "Rule": "base",
    "SoftVote": "rules.voting",
    "Stacking": "learned.stacking",
    "Threshold": "rules.threshold",
    "Training": "training",
    "TrimmedMean": "rules.order_statistics",
    "WeightedMean": "rules.linear_pool",
    "WeightedVote": "rules.voting",
    "check_members": "merging.checkpoints",
    "check_vocabularies": "sequences.generation",
    "dare": "merging.task_vectors",
    "drop_members": "training",
    "fit_calibration": "calibration.calibration",
    "fit_cascade": "learned.cascade",
    "fit_features": "features.fitting",
    "fit_gate": "learned.gate",
    "fit_output_attention": "learned.output_attention",
    "fit_rejection": "calibration.decision",
    "fit_stacking": "learned.stacking",
    "fit_thresholds": "calibration.decision",
    "fuse_next_token": "sequences.generation",
    "fuse_tokens": "sequences.token_fusion",
    "generate": "sequences.generation",
    "greedy_soup": "merging.soups",
    "mcnemar": "evaluation.significance",
    "paired_bootstrap": "evaluation.significance",
    "reestimate_batchnorm": "merging.batchnorm",
    "shapley_values": "evaluation.shapley",
    "slerp": "merging.interpolation",
    "task_arithmetic": "merging.task_vectors",
    "ties": "merging.task_vectors",
    "uniform_soup": "merging.soups",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
