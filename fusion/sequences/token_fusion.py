"""Token-level fusion: taggers give a distribution at each token of a sequence, and any output rule fuses them there.

A rule over whole sequences (``SpanVote``) gets them as they are.
"""

# M members, B batch, T tokens, C classes

from __future__ import annotations

import torch
from torch import Tensor

from quorate.fusion.base import Fused, Rule
from quorate.fusion.errors import MemberCountError, ShapeError
from quorate.fusion.sequences.span_vote import SpanVote


def fuse_tokens(rule: Rule, outputs: Tensor, present: Tensor | None = None, padding: Tensor | None = None) -> Fused:
    """Fuse members' outputs at each token. All must have cut the text into the same tokens.

    Every token is a row of its own to the rule: a member whose output at one token is not finite is absent there alone
    (from the whole sequence for a rule over sequences). Padding is never read; there everything in the answer is zero.

    Args:
        rule: any output rule.
        outputs: (M, B, T, C).
        present: (M, B) bool, or (M, B, T) for members that know parts of a sequence; None when all answered.
        padding: (B, T) bool, True where there is no token, as PyTorch's ``key_padding_mask``; None without padding.

    Returns:
        values (B, T, C), contributions (M, B, T), coverage (B, T), abstained (B, T) where the rule abstains.

    Raises:
        ShapeError: an argument has another shape.
        MemberCountError: M is not what the rule was made for.
        QuorumError: a token has no member.
    """
    if outputs.dim() != 4:
        raise ShapeError("outputs", "(members, batch, tokens, classes)", str(tuple(outputs.shape)))
    num_members, batch, length, _ = outputs.shape
    whole = padding is None
    if padding is None:
        padding = torch.zeros(batch, length, dtype=torch.bool, device=outputs.device)
    elif padding.shape != (batch, length):
        raise ShapeError("padding", f"({batch}, {length})", str(tuple(padding.shape)))
    if present is None:
        present = torch.ones(num_members, batch, dtype=torch.bool, device=outputs.device)
    if present.dim() == 2:
        present = present.unsqueeze(-1).expand(*present.shape, length)
    if present.shape != outputs.shape[:3] or present.dtype != torch.bool:
        expected = f"({num_members}, {batch}) or ({num_members}, {batch}, {length})"
        raise ShapeError("present", f"{expected} torch.bool", f"{tuple(present.shape)} {present.dtype}")
    if num_members != rule.num_members:
        raise MemberCountError(rule.num_members, num_members)
    if bool(padding.all()):
        nothing = torch.zeros(num_members + 1, batch, length, device=outputs.device)
        return Fused(torch.zeros(outputs.shape[1:], device=outputs.device), nothing[1:], nothing[0])
    if isinstance(rule, SpanVote):
        return rule.fuse_sequences(outputs, present, padding)
    if whole:
        return _unflattened(rule.fuse(outputs.flatten(1, 2), present.flatten(1, 2)), batch, length)
    fused = rule.fuse(outputs[:, ~padding], present[:, ~padding])
    return Fused(
        _spread(fused.values, padding),
        _spread(fused.contributions.T, padding).movedim(-1, 0),
        _spread(fused.coverage, padding),
        None if fused.abstained is None else _spread(fused.abstained, padding),
    )


def _unflattened(fused: Fused, batch: int, length: int) -> Fused:
    return Fused(
        fused.values.reshape(batch, length, -1),
        fused.contributions.reshape(-1, batch, length),
        fused.coverage.reshape(batch, length),
        None if fused.abstained is None else fused.abstained.reshape(batch, length),
    )


def _spread(rows: Tensor, padding: Tensor) -> Tensor:
    """Rows (tokens, ...) back to their places (B, T, ...), zero at padding."""
    places = rows.new_zeros(*padding.shape, *rows.shape[1:])
    return places.masked_scatter(~padding.view(*padding.shape, *[1] * (rows.dim() - 1)), rows)
