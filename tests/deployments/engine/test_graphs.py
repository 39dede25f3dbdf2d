"""Members that read members and fusions that members read: what is asked, and what is answered."""

import asyncio
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from quorate.deployments import parse_spec
from quorate.deployments.errors import DeadlineError, NonFiniteRowError, SpecError
from quorate.fusion.errors import QuorateError, QuorumError
from tests.deployments.support.factories.graph import evaluate
from tests.deployments.support.factories.oracle import NAN, NONE, RAISE, SLEEP
from tests.deployments.support.graphs import PLAIN, ask, ask_all, first, member, rows_of, spec_of
from tests.deployments.support.member_processes import serving
from tests.deployments.support.member_threads import PLACEMENTS


def test_member_reads_a_member():
    members = {
        "trunk": member(1, ["row"], "features", 8, index=0),
        "head": member(2, ["trunk"], "logits"),
    }
    answer = ask(spec_of(members, fusion={"rule": "mean"}), PLAIN)
    expected = softmax(evaluate(2, 3, [evaluate(1, 8, [first(PLAIN)])]), axis=1)
    np.testing.assert_allclose(answer.values, expected, atol=1e-6)
    assert set(answer.members_used) == {"trunk", "head"}
    assert not answer.degraded
    assert answer.coverage.tolist() == [1.0] * 5


def test_stacked_member_reads_members_and_the_request():
    members = {
        "left": member(1, ["row"], "logits"),
        "right": member(2, ["row"], "logits"),
        "judge": member(3, ["left", "row", "right"], "logits"),
    }
    answer = ask(spec_of(members, fusion={"rule": "mean"}), PLAIN)
    x = first(PLAIN)
    expected = softmax(evaluate(3, 3, [evaluate(1, 3, [x]), x, evaluate(2, 3, [x])]), axis=1)
    np.testing.assert_allclose(answer.values, expected, atol=1e-6)


def test_shared_trunk_runs_once_for_all_heads(tmp_path):
    log = tmp_path / "log"
    members = {"trunk": member(1, ["row"], "features", 8, log=str(log))}
    members |= {f"head{n}": member(n, ["trunk"], "logits") for n in (2, 3, 4)}
    answer = ask(spec_of(members, fusion={"rule": "mean"}), PLAIN)
    features = evaluate(1, 8, [first(PLAIN)])
    expected = np.mean([softmax(evaluate(n, 3, [features]), axis=1) for n in (2, 3, 4)], axis=0)
    np.testing.assert_allclose(answer.values, expected, atol=1e-6)
    assert log.read_text().split() == ["5"]


def test_member_that_is_read_and_fused_is_asked_once(tmp_path):
    log = tmp_path / "log"
    members = {"a": member(1, ["row"], "logits", log=str(log)), "b": member(2, ["a"], "logits")}
    members["a"]["classes"] = ["three", "one", "two"]
    answer = ask(spec_of(members, fusion={"rule": "mean", "members": ["a", "b"]}), PLAIN)
    raw = evaluate(1, 3, [first(PLAIN)])
    aligned = softmax(raw, axis=1)[:, [1, 2, 0]]
    np.testing.assert_allclose(answer.values, (aligned + softmax(evaluate(2, 3, [raw]), axis=1)) / 2, atol=1e-6)
    assert log.read_text().split() == ["5"]


def _two_modalities(**fusion):
    members = {
        "eye": member(1, ["row"], "features", 4, index=0),
        "ear": member(2, ["row"], "features", 6, index=1),
        "head": member(3, ["joint"], "logits", index=2),
    }
    joint = {"rule": "concat", "members": ["eye", "ear"], "options": {"widths": {"eye": 4, "ear": 6}}, **fusion}
    answer = {"rule": "mean", "members": ["head"], "deadline_s": 4.0}
    return spec_of(members, fusions={"joint": joint, "answer": answer})


def _head(eye, ear):
    return softmax(evaluate(3, 3, [np.concatenate([eye, ear], axis=1)]), axis=1)


def test_features_are_fused_before_the_head_reads_them():
    answer = ask(_two_modalities(), PLAIN)
    x = first(PLAIN)
    np.testing.assert_allclose(answer.values, _head(evaluate(1, 4, [x]), evaluate(2, 6, [x])), atol=1e-6)
    assert set(answer.members_used) == {"eye", "ear", "head"}


@pytest.mark.long
def test_late_encoder_gives_way_to_its_stand_in_within_the_inner_deadline():
    inputs = rows_of((7, SLEEP + 3000, 0b10))
    answer = ask(_two_modalities(deadline_s=0.3), inputs)
    eye = evaluate(1, 4, [first(inputs)])
    np.testing.assert_allclose(answer.values, _head(eye, np.zeros((1, 6), np.float32)), atol=1e-6)
    assert dict(answer.members_missing) == {"ear": "deadline"}
    assert answer.coverage.tolist() == [0.5]


def test_row_that_one_encoder_cannot_read_costs_nothing_else():
    inputs = rows_of((3, NONE, 0), (4, RAISE, 0b01), (5, NAN, 0b10))
    answer = ask(_two_modalities(), inputs)
    x = first(inputs)
    eye, ear = evaluate(1, 4, [x]), evaluate(2, 6, [x])
    eye[1] = ear[2] = 0
    np.testing.assert_allclose(answer.values, _head(eye, ear), atol=1e-6)
    assert dict(answer.members_missing) == {"eye": "error", "ear": "nonfinite"}
    assert dict(answer.rows_missing) == {"eye": (1,), "ear": (2,)}


def test_inner_quorum_holds():
    with pytest.raises(QuorumError, match="eye:error"):
        ask(_two_modalities(quorum=2), rows_of((4, RAISE, 0b01)))


def test_request_behind_a_failed_source_names_the_source_and_why():
    members = {"trunk": member(1, ["row"], "features", 8), "head": member(2, ["trunk"], "logits")}
    with pytest.raises(QuorumError, match=r"head:error, trunk:error"):
        ask(spec_of(members, fusion={"rule": "mean"}), rows_of((4, RAISE, 1)))


@pytest.mark.long
def test_late_trunk_is_a_missed_deadline_that_names_it():
    members = {"trunk": member(1, ["row"], "features", 8), "head": member(2, ["trunk"], "logits")}
    with pytest.raises(DeadlineError, match="trunk:deadline"):
        ask(spec_of(members, fusion={"rule": "mean", "deadline_s": 0.2}), rows_of((4, SLEEP + 1500, 1)))


@pytest.mark.long
def test_dead_head_leaves_its_sisters_to_answer():
    members = {"trunk": member(1, ["row"], "features", 8)}
    members |= {f"head{n}": member(n, ["trunk"], "logits") for n in (2, 3)}

    async def scenario():
        async with serving(parse_spec(spec_of(members, fusion={"rule": "mean"}))) as (engine, fleet):
            assert engine.answerable()
            fleet.replicas["head2"][0].kill()
            await asyncio.sleep(0.2)
            answer = await engine.infer(PLAIN)
            expected = softmax(evaluate(3, 3, [evaluate(1, 8, [first(PLAIN)])]), axis=1)
            np.testing.assert_allclose(answer.values, expected, atol=1e-6)
            assert dict(answer.members_missing) == {"head2": "dead"}
            fleet.replicas["trunk"][0].kill()
            await asyncio.sleep(0.2)
            assert not engine.answerable()
            with pytest.raises(QuorumError, match="trunk:dead"):
                await engine.infer(PLAIN)

    asyncio.run(scenario())


def test_fusion_of_fused_members_discounts_its_coverage():
    """Half of what one of two equal members read was missing: three quarters of the weight answered."""
    members = {
        "a": member(1, ["row"], "logits", index=0),
        "b": member(2, ["row"], "logits", index=1),
        "c": member(3, ["pool"], "logits"),
        "d": member(4, ["row"], "logits", index=3),
    }
    fusions = {
        "pool": {"rule": "mean", "members": ["a", "b"]},
        "answer": {"rule": "mean", "members": ["c", "d"], "deadline_s": 4.0},
    }
    inputs = rows_of((4, RAISE, 0b10), (5, NONE, 0))
    answer = ask(spec_of(members, fusions=fusions), inputs)
    x = first(inputs)
    pool = softmax(evaluate(1, 3, [x]), axis=1)
    pool[1] = (pool[1] + softmax(evaluate(2, 3, [x]), axis=1)[1]) / 2
    expected = (softmax(evaluate(3, 3, [pool]), axis=1) + softmax(evaluate(4, 3, [x]), axis=1)) / 2
    np.testing.assert_allclose(answer.values, expected, atol=1e-6)
    np.testing.assert_allclose(answer.coverage, [0.75, 1.0])


def test_fused_features_can_be_the_answer():
    members = {"eye": member(1, ["row"], "features", 4), "ear": member(2, ["row"], "features", 6)}
    joint = {"rule": "concat", "options": {"widths": {"eye": 4, "ear": 6}}}
    answer = ask(spec_of(members, fusion=joint), PLAIN)
    x = first(PLAIN)
    np.testing.assert_allclose(
        answer.values, np.concatenate([evaluate(1, 4, [x]), evaluate(2, 6, [x])], axis=1), atol=1e-6
    )


def test_requests_of_one_batch_keep_their_own_rows():
    inputs = [rows_of(*((n, NONE, 0) for n in range(start, start + size))) for start, size in ((1, 3), (9, 1), (20, 5))]
    for given, answer in zip(inputs, ask_all(_two_modalities(), inputs * 5), strict=False):
        x = first(given)
        np.testing.assert_allclose(answer.values, _head(evaluate(1, 4, [x]), evaluate(2, 6, [x])), atol=1e-6)


def test_explanation_shows_members_that_others_read():
    answer = ask(_two_modalities(), PLAIN, explain=True)
    x = first(PLAIN)
    np.testing.assert_allclose(answer.explanation.outputs["eye"], evaluate(1, 4, [x]), atol=1e-6)
    assert set(answer.explanation.outputs) == {"eye", "ear", "head"}
    assert set(answer.explanation.contributions) == {"head"}


# -- any graph


def _random_graph(random):
    """Members in layers, each reading some of what stands before it, and inner fusions here and there."""
    members: dict[str, Any] = {}
    fusions: dict[str, Any] = {}
    readable = ["row"]
    for number in range(random.integers(3, 8)):
        name = f"m{number}"
        count = min(len(readable), int(random.integers(1, 3)))
        reads = [str(n) for n in random.choice(readable, size=count, replace=False)]
        if "row" not in reads:
            reads.append("row")
        members[name] = member(number, reads, "logits", index=number)
        readable.append(name)
        earlier = [n for n in members if not any(n in f["members"] for f in fusions.values())]
        if len(earlier) >= 2 and random.random() < 0.4:
            fusion = f"f{number}"
            fusions[fusion] = {"rule": "mean", "members": earlier[-2:]}
            readable.append(fusion)
    read = {source for m in members.values() for source in m["inputs"]}
    fusions = {name: fusion for name, fusion in fusions.items() if name in read}
    inner = {n for fusion in fusions.values() for n in fusion["members"]}
    heads = [n for n in members if n not in read and n not in inner] or [f"m{len(members) - 1}"]
    extra = [n for n in members if n not in heads and random.random() < 0.3]
    fusions["answer"] = {"rule": "mean", "members": heads + extra, "deadline_s": 60.0}
    return spec_of(members, fusions=fusions)


def _evaluate(spec, inputs, failed):
    """The graph computed node by node from its definition; NaN where a row is missing."""
    values = {"row": first(inputs).astype(np.float32)}

    def mean(fusion):
        with np.errstate(all="ignore"):
            stack = np.stack([softmax(node(n), axis=1) for n in fusion["members"]])
            there = np.isfinite(stack).all(axis=2, keepdims=True)
            return np.where(there, stack, 0).sum(axis=0) / there.sum(axis=0)

    def node(name):
        if name not in values:
            if name in spec["fusions"]:
                values[name] = mean(spec["fusions"][name])
            else:
                sources = [node(source) for source in spec["members"][name]["inputs"]]
                values[name] = evaluate(spec["members"][name]["config"]["seed"], 3, sources)
                values[name][failed[:, int(name[1:])]] = np.nan
        return values[name]

    return mean(spec["fusions"]["answer"])


def _failing(random, spec, command=NAN):
    """Rows of which some members fail on some, and (B, M) who does."""
    failed = random.random((12, len(spec["members"]))) < 0.12
    masks = failed @ (1 << np.arange(failed.shape[1]))
    return rows_of(*((n + 1, command, int(mask)) for n, mask in enumerate(masks))), failed


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("seed", range(8))
def test_any_graph_answers_as_its_definition_says_whoever_fails_in_whichever_row(seed, placement):
    random = np.random.default_rng(seed)
    spec = _random_graph(random)
    inputs, failed = _failing(random, spec)
    expected = _evaluate(spec, inputs, failed)
    singles = [{"row": inputs["row"][n : n + 1]} for n in range(12)]
    for row, answer in zip(expected, ask_all(spec, singles, placement), strict=True):
        if np.isfinite(row).all():
            np.testing.assert_allclose(answer.values[0], row, atol=1e-5)
        else:
            assert isinstance(answer, (QuorumError, NonFiniteRowError))


def _told(spec, inputs, placement):
    """All that an answer says of rows, to the bit; what an error says where there is none."""
    try:
        answer = ask(spec, inputs, placement, explain=True)
    except QuorateError as error:
        return repr(error)
    assert answer.explanation is not None
    outputs = {name: values.tobytes() for name, values in answer.explanation.outputs.items()}
    contributions = {name: values.tobytes() for name, values in answer.explanation.contributions.items()}
    missing = dict(answer.members_missing), dict(answer.rows_missing)
    return answer.values.tobytes(), answer.coverage.tobytes(), answer.members_used, missing, outputs, contributions


@pytest.mark.parametrize("command", [NAN, RAISE])
@pytest.mark.parametrize("seed", range(100, 106))
def test_where_members_of_any_graph_run_changes_no_bit_of_what_is_told(seed, command):
    random = np.random.default_rng(seed)
    spec = _random_graph(random)
    spec["fusions"]["answer"]["quorum"] = 1
    inputs, _ = _failing(random, spec, command)
    inputs["row"] = inputs["row"][:4]  # of more there is nearly always one that nobody answers
    inputs["row"] = np.concatenate([inputs["row"], PLAIN["row"]])
    apart, *others = [_told(spec, inputs, placement) for placement in PLACEMENTS]
    for other in others:
        assert other == apart


# -- what a spec must hold


def test_inner_fusion_has_its_share_of_the_deadline():
    fusions = parse_spec(_two_modalities()).all_fusions
    assert (fusions["joint"].deadline_s, fusions["answer"].deadline_s) == (2.0, 4.0)


def test_inner_deadline_that_leaves_no_time_is_refused():
    with pytest.raises(SpecError, match=r"fusions.joint.deadline_s: 4 s leaves no time for its readers"):
        parse_spec(_two_modalities(deadline_s=4.0))


def test_fusion_that_nobody_reads_is_refused():
    spec = _two_modalities()
    spec["fusions"]["spare"] = {"rule": "mean", "members": ["head"]}
    spec["output"] = "answer"
    with pytest.raises(SpecError, match=r"fusions.spare: no member reads it"):
        parse_spec(spec)


def test_muted_member_does_not_count_for_the_quorum():
    members = {"a": member(1, ["row"]), "b": member(2, ["row"])}
    with pytest.raises(SpecError, match="2 members must answer but only 1 are fused"):
        parse_spec(spec_of(members, fusion={"rule": "weighted_mean", "weights": {"a": 1, "b": 0}, "quorum": 2}))
