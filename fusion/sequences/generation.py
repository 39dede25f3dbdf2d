"""Next-token fusion: generators over one vocabulary write one text, each token from all their distributions fused.

With ``WeightedMean`` this is the linear pool of next-token distributions: at every step the text so far is the same for
all, so that members steer each other, unlike a vote over finished texts.
"""

# M members, B batch, T tokens so far, V vocabulary, S steps

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor

from quorate.fusion.base import Fused, Rule
from quorate.fusion.errors import MemberCountError, RuleOptionError, ShapeError, VocabularyError

NextTokenLogits = Callable[[Tensor], Tensor | None]
"""A member: tokens (B, T) int64 to the logits (B, V) of the next one; None when it did not answer."""


def check_vocabularies(vocabularies: Mapping[str, Sequence[str]]) -> None:
    """Refuse members whose token numbers mean different things.

    Args:
        vocabularies: tokens in the order of their numbers, by member.

    Raises:
        VocabularyError: names the first token that differs.
    """
    names = sorted(vocabularies)
    for name in names[1:]:
        reference, found = vocabularies[names[0]], vocabularies[name]
        for index, (token, expected) in enumerate(zip_longest(found, reference)):
            if token != expected:
                pair = ["nothing" if token is None else token for token in (token, expected)]
                raise VocabularyError(name, index, pair[0], names[0], pair[1])


def fuse_next_token(rule: Rule, logits: Tensor, present: Tensor | None = None) -> Fused:
    """Fuse members' distributions of the next token.

    Args:
        rule: an output rule over probabilities.
        logits: (M, B, V); -inf forbids a token, a row with NaN, with +inf or without a finite logit is absent.
        present: (M, B) bool; None when all answered.

    Returns:
        values (B, V), rows sum to one.

    Raises:
        ShapeError, MemberCountError, QuorumError: as for every rule.
    """
    # softmax makes NaN of every row that the rule must not read
    return rule.fuse(logits.float().softmax(dim=-1), present)


@dataclass(frozen=True)
class Generated:
    """What was written.

    Attributes:
        tokens: (B, S) int64; after a row's end token only end tokens.
        log_probabilities: (B, S) float32 of the tokens in the fused distribution; 0 after the end token.
        coverage: (B, S) float32, share of the ensemble's weight that answered at each step; 1 after the end token.
    """

    tokens: Tensor
    log_probabilities: Tensor
    coverage: Tensor


@torch.no_grad()
def generate(
    rule: Rule,
    members: Sequence[NextTokenLogits],
    prompt: Tensor,
    max_new_tokens: int,
    end_token: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
) -> Generated:
    """Write on from a prompt, asking all members for every token.

    A member that returns None, or a row that is not usable, is absent for that step alone.

    Args:
        rule: an output rule over probabilities, one row for each member.
        members: in the order of the rule's.
        prompt: (B, T) int64, T >= 1.
        max_new_tokens: S at most; fewer when every row has ended.
        end_token: a row that gets it is finished, and no longer fused; None to write S tokens.
        temperature: 0 takes the likeliest token (the lowest number of several); otherwise a token is drawn from the
            fused distribution to the power 1 / temperature.
        seed: of the draws.

    Raises:
        RuleOptionError: an option lies outside.
        ShapeError: the prompt or a member's logits have another shape.
        MemberCountError: there are more or fewer members than the rule has.
        QuorumError: a row has no member at some step.
    """
    _check(rule, members, prompt, max_new_tokens, temperature)
    generator = torch.Generator(prompt.device).manual_seed(seed)
    text, writing = prompt, torch.ones(len(prompt), dtype=torch.bool, device=prompt.device)
    blank = torch.zeros(len(prompt), device=prompt.device)
    steps = []
    for _ in range(max_new_tokens):
        logits, present = _ask(members, text)
        fused = fuse_next_token(rule, logits[:, writing], present[:, writing])
        chosen = _choose(fused.values, temperature, generator)
        likelihood = fused.values.gather(1, chosen.unsqueeze(1)).squeeze(1).log()
        token = prompt.new_full(writing.shape, end_token or 0).masked_scatter(writing, chosen)
        covered = (blank + 1).masked_scatter(writing, fused.coverage)
        steps.append((token, blank.masked_scatter(writing, likelihood), covered))
        text = torch.cat([text, token.unsqueeze(1)], dim=1)
        if end_token is not None:
            writing = writing & (token != end_token)
        if not bool(writing.any()):
            break
    return Generated(*(torch.stack(column, dim=1) for column in zip(*steps, strict=True)))


def _check(
    rule: Rule, members: Sequence[NextTokenLogits], prompt: Tensor, max_new_tokens: int, temperature: float
) -> None:
    if len(members) != rule.num_members:
        raise MemberCountError(rule.num_members, len(members))
    if prompt.dim() != 2 or 0 in prompt.shape or prompt.dtype != torch.int64:
        raise ShapeError("prompt", "(rows, tokens) int64, neither 0", f"{tuple(prompt.shape)} {prompt.dtype}")
    if max_new_tokens < 1:
        raise RuleOptionError("generate", "max_new_tokens", max_new_tokens, "give 1 or more")
    if not 0 <= temperature < float("inf"):
        raise RuleOptionError("generate", "temperature", temperature, "give a finite number >= 0")


def _ask(members: Sequence[NextTokenLogits], text: Tensor) -> tuple[Tensor, Tensor]:
    """Every member's logits (M, B, V), zeros for one that did not answer, and who did (M, B)."""
    answers = [member(text) for member in members]
    some = next((answer for answer in answers if answer is not None), None)
    if some is None:
        some = torch.zeros(len(text), 1)
    for answer in answers:
        if answer is not None and (answer.shape != some.shape or len(answer) != len(text)):
            raise ShapeError("a member's logits", f"({len(text)}, {some.shape[-1]})", str(tuple(answer.shape)))
    present = torch.tensor([answer is not None for answer in answers]).unsqueeze(1).expand(-1, len(text))
    logits = torch.stack([torch.zeros_like(some) if answer is None else answer for answer in answers])
    return logits, present.to(logits.device)


def _choose(distribution: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    if temperature == 0:
        return distribution.argmax(dim=-1)
    sharpened = (distribution.log() / temperature).softmax(dim=-1)
    return torch.multinomial(sharpened, 1, generator=generator).squeeze(1)
