"""Training of a feature rule together with the head that reads it."""

# M members, N rows, F_m features of member m, F features of the answer, C classes

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from quorate.fusion.base import check_mask
from quorate.fusion.errors import MemberCountError, QuorumError, RuleOptionError, ShapeError
from quorate.fusion.features.base import FeatureRule
from quorate.fusion.training import Training, train


def fit_features(
    rule: FeatureRule,
    head: nn.Module,
    features: Mapping[str, Tensor],
    labels: Tensor,
    present: Tensor | None = None,
    *,
    training: Training | None = None,
) -> None:
    """Train a rule and its head for log-loss on members' stored features, members left out anew in every step.

    Both are changed in place, and frozen afterwards: ``rule.to_spec`` and ``rule.state()`` are what a spec takes, the
    head is a member that reads the fusion. Make them under ``torch.manual_seed`` where the run is to be repeated.

    Args:
        rule: any feature rule.
        head: (n, F) to logits (n, C).
        features: (N, F_m) by member, one for each member of the rule. Rows that are not finite are absent.
        labels: (N,) integers in [0, C).
        present: (M, N) bool, in the order of ``rule.members``; None when every member answered.
        training: the settings.

    Raises:
        RuleOptionError: a member has no features, or labels are no class numbers.
        MemberCountError, ShapeError: arguments do not fit together.
        QuorumError: no row has a member.
    """
    there = _who_is_there(rule, features, labels, present)
    kept = there.any(dim=0)  # a row without any member teaches nothing
    if not bool(kept.any()):
        raise QuorumError("a row with a member", "none")
    given, truth = {name: features[name].float()[kept] for name in rule.members}, labels[kept].long()
    rule.requires_grad_(True).train()
    head.requires_grad_(True).train()

    def loss(rows: Tensor, left: Tensor) -> Tensor:
        logits = head(rule({name: tensor[rows] for name, tensor in given.items()}, left))
        return cross_entropy(logits, truth[rows])

    train(loss, [*rule.parameters(), *head.parameters()], there[:, kept], training or Training())
    rule.requires_grad_(False).eval()
    head.requires_grad_(False).eval()


def _who_is_there(rule: FeatureRule, features: Mapping[str, Tensor], labels: Tensor, present: Tensor | None) -> Tensor:
    """(M, N) bool, who gave a finite row; raises as ``fit_features`` says."""
    missing = sorted(set(rule.members) ^ set(features))
    if missing:
        raise RuleOptionError(rule.name, "features", missing, f"give features of {', '.join(rule.members)}")
    if labels.dim() != 1 or labels.is_floating_point() or bool((labels < 0).any()):
        raise RuleOptionError(rule.name, "labels", str(labels.dtype), "give (N,) class numbers from 0")
    for name in rule.members:
        if features[name].shape != (len(labels), rule.widths[name]):
            found = str(tuple(features[name].shape))
            raise ShapeError(f"features of {name}", f"({len(labels)}, {rule.widths[name]})", found)
    if present is not None and len(present) != len(rule.members):
        raise MemberCountError(len(rule.members), len(present))
    if present is not None:
        check_mask(present, (len(rule.members), len(labels)))
    finite = torch.stack([torch.isfinite(features[name].float()).all(dim=-1) for name in rule.members])
    return finite if present is None else finite & present
