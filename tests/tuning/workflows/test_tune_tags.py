"""Taggers' predictions: which fusion says the spans best, judged by whole sentences."""

import numpy as np
import pandas as pd
import pytest
import yaml

import quorate
from quorate.deployments import load_spec, parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.sources.loading import load_model
from quorate.fusion import decode, tag_scheme
from quorate.fusion.sequences.decoding import decode_flat
from quorate.tuning import Labelled, Outputs, Predictions, Recipe, choose, tune_fusion
from quorate.tuning.alternatives.spec_fusion import with_recipe
from quorate.tuning.errors import PredictionError, TuningError
from quorate.tuning.evaluation.metrics.row_metrics import row_metric
from quorate.tuning.evaluation.row_checks import shifts
from quorate.tuning.runs.probe import load_probe
from quorate.tuning.workflows.guarantees import Promised
from quorate.tuning.workflows.tune_predictions import tune_predictions

pytestmark = pytest.mark.long

CLASSES = ("O", "B-person", "I-person", "B-place", "I-place")
NAMES = ("a", "b", "c")
SCHEME = tag_scheme(CLASSES)
# True and predicted tags of sentences (p and q begin a person and a place, P and Q go on with one), and what seqeval
# 1.2.2 gives them: f1_score(mode="strict", scheme=IOB2, zero_division=0).
SEQEVAL = (
    ("QpPpQ qPOqO q Q", "QPPpQ OPOPO q Q", 0.571429), ("PqPp qPQ pPP O", "PQPq PPQ pPP O", 0.333333),
    ("OqOppp qpp qqPpQp", "OpOQQq qpp qqPPQp", 0.631579), ("POQPO qQPp POPPQ", "POQPO qQPp OOOqQ", 0.8),
    ("O Pp OPpqpP", "O Pp OQPqOP", 0.666667), ("PPQOqp pQqpp O qqqpqp", "PPQOqp pOqOO O QPqPqO", 0.666667),
    ("qPOpOp pp OQ", "qPqpOp Pp PQ", 0.8), ("pqpPO qp qPpqOP pO", "pqppO qp OPpqOP pO", 0.777778),
    ("POpP QQOP POp Qp", "PqpP QQOP PQp Qp", 0.857143), ("Oqq ppqPqq QqOqOp", "Oqq ppqQpq QqqqPp", 0.761905),
    ("OPQ O", "OPQ O", 0.0),
)  # fmt: skip


def sentences(count, seed=0, noises=(1.2, 1.4, 1.6)):
    """(M, N, C) of members that see the true tags under noise, (N,) labels and (N,) sentences."""
    random = np.random.default_rng(seed)
    labels, of = [], []
    for number in range(count):
        tags: list[int] = []
        while len(tags) < random.integers(4, 12):
            kind = random.integers(0, 6)
            tags += [0] if kind > 1 else [1 + 2 * kind] + [2 + 2 * kind] * random.integers(0, 3)
        labels += tags
        of += [number] * len(tags)
    logits = 3.0 * np.eye(5)[labels] + np.array([1.5, 0, 0, 0, 0])
    noise = random.normal(size=(3, len(labels), 5)) * np.array(noises)[:, None, None]
    shares = np.exp(logits + noise)
    return (shares / shares.sum(axis=2, keepdims=True)).astype(np.float32), np.array(labels), np.array(of)


def given(count, seed=0, **columns):
    said, labels, of = sentences(count, seed)
    return Predictions(NAMES, CLASSES, said, labels, sequences=of, **columns)


def f1_by_hand(labels, tags, of):
    """Of sets of spans, read one by one."""

    def spans(column):
        found, place = set(), 0
        while place < len(column):
            name, end = CLASSES[column[place]], place + 1
            if name.startswith("B-"):
                while end < len(column) and of[end] == of[place] and CLASSES[column[end]] == "I-" + name[2:]:
                    end += 1
                found.add((place, end, name[2:]))
            place = end
        return found

    true, said = spans(labels), spans(tags)
    return 2 * len(true & said) / (len(true) + len(said))


def test_span_f1_is_that_of_the_decoded_tags_for_every_alternative(tmp_path):
    predictions = given(120)
    judged = predictions.sequences % 2 == 1
    result = tune_predictions(Predictions(**{**vars(predictions), "judged": judged}), runs=tmp_path)
    choice = result.choice
    assert (choice.metric, choice.groups) == ("span_f1", 120)
    assert {"uniform", "tuned", "decisions", "span_vote", "decided_single"} <= set(choice.alternatives)
    said, labels, of = predictions.outputs[:, judged], predictions.labels[judged], predictions.sequences[judged]
    for name in (*NAMES, "uniform", "tuned", "stacking"):
        tags = decode_flat(choice.recipes[name].fuse(NAMES, said), of, SCHEME)
        assert choice.alternatives[name].value == pytest.approx(f1_by_hand(labels, tags, of))
    assert choice.alternatives["class_frequencies"].value == 0
    assert choice.decision == "ensemble"
    assert choice.alternatives["uniform"].value > max(choice.alternatives[name].value for name in NAMES)


def test_span_f1_is_seqevals_on_tags_of_any_kind():
    metric = row_metric("span_f1", classes=CLASSES)
    for true, said, expected in SEQEVAL:
        labels, tags = (np.array(["OpPqQ".index(tag) for tag in text.replace(" ", "")]) for text in (true, said))
        first = np.concatenate([np.arange(len(word)) == 0 for word in true.split()])
        counts = metric.rows(labels, tags, first)
        assert float(metric.value(counts.mean(axis=0))) == pytest.approx(expected, abs=1e-6)


def test_a_table_of_tokens_is_enough_and_its_fusion_is_served_as_it_was_fitted(tmp_path):
    said, labels, of = sentences(120)
    columns = {f"{name}/{tag}": said[m, :, c] for m, name in enumerate(NAMES) for c, tag in enumerate(CLASSES)}
    table = pd.DataFrame({"label": [CLASSES[tag] for tag in labels], "sequence": of, **columns})
    table.to_parquet(tmp_path / "tokens.parquet")
    result = quorate.tune(predictions=tmp_path / "tokens.parquet", runs=tmp_path / "runs")
    assert (result.choice.metric, result.choice.decision) == ("span_f1", "ensemble")
    fresh, _, of = sentences(30, seed=9)
    for name in ("decisions", "span_vote", "calibrated"):
        fusion = yaml.safe_load((result.folder / f"fusion-{name}.yaml").read_text())["fusion"]
        members = {one: {"model": "m:f", "inputs": ["x"], "output": "probabilities"} for one in fusion["members"]}
        spec = parse_spec(
            {
                "name": "tagger", "task": "tagging", "classes": list(CLASSES), "members": members, "fusion": fusion,
                "inputs": {"x": {"datatype": "FP32", "shape": [-1, 4]}},
            }
        )  # fmt: skip
        revision = build_revision(spec, result.folder)
        recipe = result.choice.served[name]
        told = recipe.fuse_sequences(NAMES, fresh, of) if recipe.classes else recipe.fuse(NAMES, fresh)
        for number in range(30):
            rows = np.flatnonzero(of == number)
            outputs = np.stack([fresh[NAMES.index(one), rows][None] for one in revision.asked])
            served = revision.fuse(outputs, np.ones((len(outputs), 1), bool)).values
            np.testing.assert_allclose(served[0], told[rows], atol=1e-6)
            assert decode(served, None, SCHEME)[0].tolist() == decode(told[rows][None], None, SCHEME)[0].tolist()


def test_tags_of_other_sentences_earn_nothing(tmp_path):
    said, labels, of = sentences(120)
    order = np.concatenate([np.flatnonzero(of == number) for number in np.random.default_rng(4).permutation(120)])
    result = tune_predictions(Predictions(NAMES, CLASSES, said, labels[order], sequences=of), runs=tmp_path)
    assert result.choice.decision != "ensemble"


def test_halves_of_sentences_whose_tags_come_in_clusters_are_of_one_kind_and_others_are_not():
    random = np.random.default_rng(0)
    of = np.repeat(np.arange(200), 20)
    shares = random.beta(0.3, 2, 200)[of]  # of a tag, other in every sentence
    labels = (random.random(len(of)) < shares).astype(int)
    said = np.stack([1 - shares, shares], axis=1)[None].astype(np.float32)
    found = []
    for seed in range(20):
        half = np.random.default_rng(seed).permutation(200)[of] < 100
        parts = [Outputs(("a",), said[:, p], labels[p], groups=of[p], sequences=of[p]) for p in (half, ~half)]
        found += shifts(*parts)
    assert found == []
    half = shares < np.median(shares)
    parts = [Outputs(("a",), said[:, p], labels[p], groups=of[p], sequences=of[p]) for p in (half, ~half)]
    assert [sentence.split(" (p")[0] for sentence in shifts(*parts)] == [
        "classes are mixed otherwise in solving rows than in judging rows",
        "a is not as confident on solving rows as on judging rows",
    ]


def test_sentences_stay_whole_and_count_as_one_draw(tmp_path):
    predictions = given(60)
    predictions.outputs[1, 5] = np.nan  # a token of the first or second sentence
    torn = int((predictions.sequences == predictions.sequences[5]).sum())
    result = tune_predictions(predictions, runs=tmp_path)
    assert (result.rows_left_out, result.choice.groups) == (torn, 59)
    judged = np.arange(len(predictions)) % 2 == 1
    with pytest.raises(PredictionError, match=r"predictions, judged: .*give all tokens of a sequence the same"):
        tune_predictions(Predictions(**{**vars(predictions), "judged": judged}), runs=tmp_path)


def test_tokens_mixed_up_among_sentences_are_judged_the_same(tmp_path):
    said, labels, of = sentences(40)
    order = np.argsort(np.random.default_rng(0).permutation(40)[of], kind="stable")
    halves = of % 2 == 1

    def value(rows):
        solve, judge = rows[~halves[rows]], rows[halves[rows]]
        parts = [Outputs(NAMES, said[:, p], labels[p], groups=of[p], sequences=of[p]) for p in (solve, judge)]
        return choose(*parts, metric=row_metric("span_f1", classes=CLASSES)).alternatives["uniform"].value

    assert value(order) == pytest.approx(value(np.arange(len(of))))


def test_classes_of_tokens_that_say_no_spans_are_judged_token_by_token(tmp_path):
    said, labels, of = sentences(40)
    words = Predictions(NAMES, ("x", "a", "b", "c", "d"), said, labels, sequences=of)
    result = tune_predictions(words, "token_accuracy", runs=tmp_path)
    judged = result.choice.alternatives["a"]
    assert 0.5 < judged.value < 1
    assert tune_predictions(words, runs=tmp_path).choice.metric == "log_loss"
    with pytest.raises(TuningError, match="say no spans"):
        tune_predictions(words, "span_f1", runs=tmp_path)


def test_what_needs_sentences_or_rows_that_are_none_is_refused(tmp_path):
    said, labels, _ = sentences(40)
    with pytest.raises(TuningError, match="column 'sequence'"):
        tune_predictions(Predictions(NAMES, CLASSES, said, labels), "span_f1", runs=tmp_path)
    with pytest.raises(TuningError, match="tokens of sequences"):
        tune_predictions(given(40), promised=Promised(0.9), runs=tmp_path)


MODEL = """
import numpy as np

def make(member):
    def predict(tokens, length):
        assert (length[:, 0] == tokens.shape[1]).all()
        if (tokens[:, 0, 15] == 13).any():
            raise ValueError("13 is not for me")
        return tokens[..., 5 * member : 5 * member + 5]
    return predict
"""


@pytest.fixture
def taggers(tmp_path):
    """A spec whose members say what stands in their part of a token's row, and a table of such tokens."""
    (tmp_path / "row_taggers.py").write_text(MODEL)
    members = {
        name: {
            "model": "row_taggers:make", "config": {"member": number}, "inputs": ["row", "n"], "output": "probabilities"
        }
        for number, name in enumerate(NAMES)
    }  # fmt: skip
    spec = {
        "name": "taggers", "task": "tagging", "classes": list(CLASSES), "members": members, "fusion": {"rule": "mean"},
        "inputs": {"row": {"datatype": "FP32", "shape": [-1, 16]}, "n": {"datatype": "INT32", "shape": [1]}},
        "lengths": "n",
    }  # fmt: skip
    said, labels, of = sentences(120)
    rows = np.concatenate([*said, np.zeros((len(of), 1))], axis=1).astype(np.float32)
    rows[of == 7, 15] = 13
    table = pd.DataFrame({"row": list(rows), "label": [CLASSES[tag] for tag in labels], "sequence": of})
    table.to_parquet(tmp_path / "tokens.parquet")
    return parse_spec(spec), tmp_path, rows, labels, of


def test_members_are_run_over_sentences_and_the_run_is_served_as_it_was_judged(taggers):
    spec, folder, rows, labels, of = taggers
    result = quorate.tune(spec, folder / "tokens.parquet", folder=folder, runs=folder / "runs")
    assert (result.choice.metric, result.choice.decision) == ("span_f1", "ensemble")
    assert result.rows_left_out == {"tokens": (of == 7).sum()}
    assert {"incumbent", "span_vote"} <= set(result.choice.alternatives)
    assert result.spec.task == "tagging"
    said = [np.where((of == 7)[:, None], np.nan, rows[:, 5 * m : 5 * m + 5]) for m in range(3)]
    by_hand = quorate.tune(
        predictions=Predictions(NAMES, CLASSES, np.stack(said), labels, sequences=of), runs=folder / "runs"
    )
    for name, one in by_hand.choice.alternatives.items():
        assert result.choice.alternatives[name].value == one.value
    for name in ("", "span_vote"):
        if name == result.choice.recommended:
            continue
        served = load_spec(result.folder / (f"spec-{name}.yaml" if name else "spec.yaml"))
        probe = load_probe(result.folder, served, name or None)
        revision = build_revision(served, result.folder)
        outputs = []
        for member in revision.asked:
            job = served.job(member)
            outputs.append(Predictor(load_model(member, job.member, result.folder), job).run(probe.inputs, True)[0])
        inputs = {"n": probe.inputs["n"]}
        fused = revision.fuse(np.stack(outputs), np.ones((len(outputs), len(outputs[0])), bool), inputs).values
        np.testing.assert_allclose(fused, probe.expected, atol=1e-5)


def test_a_fusion_keeps_the_lengths_that_no_member_of_it_reads(taggers, tmp_path):
    data = taggers[0].model_dump(mode="json", exclude_defaults=True)
    data["members"]["c"]["inputs"] = ["row"]
    alone = with_recipe(parse_spec(data), Recipe("mean", ("c",)), tmp_path, "c")
    assert (list(alone.members), list(alone.inputs), alone.lengths) == (["c"], ["row", "n"], "n")


def test_taggers_are_tuned_for_what_wrong_tags_cost_and_served_so(taggers):
    spec, folder, *_ = taggers
    costs = 1.0 - np.eye(5)
    costs[1:, 0] = 10.0  # what is overlooked is dear
    result = quorate.tune(spec, folder / "tokens.parquet", costs=costs.tolist(), folder=folder, runs=folder / "runs")
    found = result.choice.alternatives
    assert (result.choice.metric, result.choice.unit) == ("cost", "cost per token")
    assert found["decisions"].value < min(found[name].value for name in ("uniform", "incumbent", "tuned"))
    served = load_spec(
        result.folder / ("spec.yaml" if result.choice.recommended == "decisions" else "spec-decisions.yaml")
    )
    calibration = served.output_fusion.calibration
    assert calibration is not None
    assert calibration.bias is not None
    assert calibration.bias["O"] < max(calibration.bias.values())


def test_what_taggers_cannot_be_asked_yet_is_refused(taggers):
    spec, folder, *_ = taggers
    with pytest.raises(TuningError, match="tokens with coverage"):
        quorate.tune(spec, folder / "tokens.parquet", folder=folder, coverage=0.9, runs=folder / "runs")
    rows = Labelled({}, np.zeros(3, np.int64), CLASSES)
    with pytest.raises(TuningError, match="table of tokens"):
        tune_fusion(spec, folder, rows, rows, runs=folder / "runs")
