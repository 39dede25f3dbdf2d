"""Next-token fusion, with Markov chains as generators: small enough to follow every token by hand in numpy."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from quorate.fusion import Mean, WeightedMean, check_vocabularies, fuse_next_token, generate
from quorate.fusion.errors import MemberCountError, QuorumError, RuleOptionError, ShapeError, VocabularyError

# M members, B batch, V vocabulary
V = 7
WEIGHTS = [0.6, 0.4]
TABLES = 2 * torch.randn(2, V, V, generator=torch.Generator().manual_seed(3))
PROMPT = torch.tensor([[0, 1], [0, 2], [3, 3], [1, 6]])


def chain(table: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda tokens: table[tokens[:, -1]]


def mixture() -> np.ndarray:
    """(V, V) float64, row t the fused distribution after token t."""
    raised = np.exp(TABLES.double().numpy())
    return np.average(raised / raised.sum(-1, keepdims=True), axis=0, weights=WEIGHTS)


def test_next_token_is_drawn_from_the_weighted_mean_of_the_distributions() -> None:
    fused = fuse_next_token(WeightedMean(WEIGHTS), TABLES)
    np.testing.assert_allclose(fused.values, mixture(), rtol=1e-5)


def test_forbidden_token_has_probability_zero_and_a_row_of_rubbish_is_absent() -> None:
    logits = TABLES.clone()
    logits[:, :, 2] = -float("inf")
    fused = fuse_next_token(Mean(2), logits)
    assert not fused.values[:, 2].any()
    torch.testing.assert_close(fused.values.sum(-1), torch.ones(V))
    assert (fused.coverage == 1).all()
    for rubbish in (torch.full((V,), -float("inf")), torch.full((V,), float("nan")), torch.eye(V)[0] * float("inf")):
        spoiled = TABLES.clone()
        spoiled[0, 4] = rubbish
        fused = fuse_next_token(Mean(2), spoiled)
        torch.testing.assert_close(fused.values[4], TABLES[1, 4].softmax(-1))
        assert fused.coverage[4] == 0.5


def test_greedy_text_is_the_chain_of_the_mixtures_likeliest_tokens() -> None:
    written = generate(WeightedMean(WEIGHTS), [chain(table) for table in TABLES], PROMPT, max_new_tokens=12)
    table = mixture()
    for row in range(len(PROMPT)):
        token = int(PROMPT[row, -1])
        for step in range(12):
            following = int(table[token].argmax())
            assert written.tokens[row, step] == following
            np.testing.assert_allclose(written.log_probabilities[row, step], np.log(table[token, following]), rtol=1e-4)
            token = following
    assert torch.equal(written.coverage, torch.ones(4, 12))


def test_members_read_the_text_that_was_written_together() -> None:
    seen: list[Tensor] = []

    def watching(tokens: Tensor) -> Tensor:
        seen.append(tokens)
        return TABLES[0][tokens[:, -1]]

    written = generate(WeightedMean(WEIGHTS), [watching, chain(TABLES[1])], PROMPT, max_new_tokens=3)
    assert [tokens.shape[1] for tokens in seen] == [2, 3, 4]
    assert torch.equal(seen[-1], torch.cat([PROMPT, written.tokens[:, :2]], dim=1))


def test_row_that_ended_stays_ended_and_writing_stops_when_all_have() -> None:
    end = 5
    table = torch.full((V, V), -2.0)
    for token, following in {1: 2, 2: 3, 3: end, 6: end, end: 1, 0: 0, 4: 4}.items():
        table[token, following] = 2.0
    written = generate(Mean(1), [chain(table)], PROMPT, max_new_tokens=10, end_token=end)
    assert written.tokens.tolist() == [[2, 3, end], [3, end, end], [end] * 3, [end] * 3]
    assert not written.log_probabilities[2:, 1:].any()
    assert (written.log_probabilities[:, 0] < 0).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_drawn_tokens_have_the_frequencies_of_the_sharpened_mixture(temperature: float) -> None:
    rows = 20_000
    prompt = torch.full((rows, 1), 4)
    members = [chain(table) for table in TABLES]
    tokens = generate(WeightedMean(WEIGHTS), members, prompt, 1, temperature=temperature).tokens[:, 0]
    expected = mixture()[4] ** (1 / temperature)
    expected /= expected.sum()
    counts = np.bincount(tokens, minlength=V) / rows
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected * (1 - expected) / rows)).all()


def test_draws_repeat_for_a_seed() -> None:
    members = [chain(table) for table in TABLES]
    one, same, other = (generate(Mean(2), members, PROMPT, 20, temperature=1.0, seed=seed).tokens for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_member_that_does_not_answer_is_absent_for_that_step_alone() -> None:
    calls = 0

    def shaky(tokens: Tensor) -> Tensor | None:
        nonlocal calls
        calls += 1
        return None if calls == 2 else TABLES[0][tokens[:, -1]]

    written = generate(WeightedMean(WEIGHTS), [shaky, chain(TABLES[1])], PROMPT, max_new_tokens=3)
    np.testing.assert_allclose(written.coverage, np.tile([1.0, 0.4, 1.0], (4, 1)), rtol=1e-6)
    assert torch.equal(written.tokens[:, 1], TABLES[1][written.tokens[:, 0]].argmax(-1))


def test_row_that_ended_needs_no_member_any_more() -> None:
    def forgetful(tokens: Tensor) -> Tensor:
        logits = torch.zeros(len(tokens), V)
        logits[:, 3] = 1.0
        logits[:, 5] = tokens[:, -1].eq(3).float() * 2
        return torch.where((tokens == 5).any(dim=1, keepdim=True), float("nan"), logits)

    written = generate(Mean(1), [forgetful], torch.tensor([[3], [0]]), max_new_tokens=5, end_token=5)
    assert written.tokens.tolist() == [[5, 5], [3, 5]]
    assert written.coverage.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_nobody_answering_is_a_typed_error() -> None:
    with pytest.raises(QuorumError):
        generate(Mean(2), [lambda tokens: None, lambda tokens: None], PROMPT, max_new_tokens=3)


def test_vocabularies_of_other_sizes_and_wrong_arguments_are_typed_errors() -> None:
    members = [chain(table) for table in TABLES]
    with pytest.raises(ShapeError, match="logits"):
        generate(Mean(2), [members[0], chain(TABLES[1][:, :-1])], PROMPT, 3)
    with pytest.raises(MemberCountError):
        generate(Mean(3), members, PROMPT, 3)
    with pytest.raises(ShapeError, match="prompt"):
        generate(Mean(2), members, PROMPT[:, :0], 3)
    with pytest.raises(ShapeError, match="prompt"):
        generate(Mean(2), members, PROMPT.float(), 3)
    for options in ({"max_new_tokens": 0}, {"max_new_tokens": 3, "temperature": -1.0}):
        with pytest.raises(RuleOptionError):
            generate(Mean(2), members, PROMPT, **options)


def test_vocabularies_must_agree_token_by_token() -> None:
    check_vocabularies({"a": ["x", "y"], "b": ("x", "y")})
    with pytest.raises(VocabularyError, match="token 1 is 'z' in b but 'y' in a"):
        check_vocabularies({"a": ["x", "y"], "b": ["x", "z"]})
    with pytest.raises(VocabularyError, match="token 2 is 'z' in b but 'nothing' in a"):
        check_vocabularies({"a": ["x", "y"], "b": ["x", "y", "z"]})
    error = VocabularyError("b", 1, "z", "a", "y")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
