"""Parts of a graph that learn together, on two halves of real digits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import nn

from quorate.deployments import parse_spec
from quorate.deployments.engine.offline_graph import OfflineGraph
from quorate.tuning.composite.columns import columns_of, labelled_columns
from quorate.tuning.composite.composite_job import CompositeJob
from quorate.tuning.composite.learned_rule import fit_rule, out_of_fold_outputs
from quorate.tuning.composite.loss import Objective, imitation
from quorate.tuning.composite.modality_dropout import left_out, modalities
from quorate.tuning.composite.run_job import run_job
from quorate.tuning.composite.run_on_workers import run_on_workers
from quorate.tuning.composite.trained_part import trained_part
from quorate.tuning.composite.trained_spec import write_trained
from quorate.tuning.errors import TuningError
from quorate.tuning.training.epochs import Training
from tests.tuning.support.scene import blind_scene, scene, scene_fields, scene_rows, two_heads, write_networks

pytestmark = pytest.mark.long
FEW = Training(epochs=4, batch_size=64, learning_rate=1e-2)
FUSED_ALONE = Objective(auxiliary=0.0, member_dropout=0.0)


@pytest.fixture(scope="module")
def rows():
    return scene_rows()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_networks(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def job(folder, rows):
    def make(spec, what="heads", training=FEW, objective=FUSED_ALONE, **more):
        part = trained_part(spec, what)
        seen, stop = (labelled_columns(spec, folder, part, data) for data in rows[:2])
        return CompositeJob(spec, folder, part, "classes", seen, stop, training=training, objective=objective, **more)

    return make


def quiet(epoch):
    pass


def trained(job, place):
    return run_job(job, place, quiet)


def bits(run):
    return [value.clone() for value in run.model.state_dict().values()]


def same(first, second):
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_heads_are_what_reads_members_and_what_stands_before_them_stays_outside(folder):
    part = trained_part(scene())
    assert part.trained == ("both", "reader")
    assert part.inside == ("both", "reader")
    assert set(part.outside) == {"above", "below"}


def test_end_to_end_everything_is_inside():
    part = trained_part(scene(), "all")
    assert set(part.trained) == {"both", "reader", "above", "below"}
    assert part.outside == ()


def test_a_head_named_alone_has_the_fusion_before_it_run_anew_since_members_may_be_missing():
    part = trained_part(scene(), ["reader"])
    assert part.trained == ("reader",)
    assert part.inside == ("both", "reader")


def test_a_linear_head_comes_to_the_optimum_of_logistic_regression(folder, rows, job, tmp_path):
    how = Training(epochs=60, batch_size=32, learning_rate=5e-2, weight_decay=0.0, patience=60)
    one = job(scene(), training=how)
    run = trained(one, tmp_path)
    seen, unseen = (
        torch.cat([columns.values[name] for name in ("above", "below")], dim=1).numpy()
        for columns in (one.rows, one.validation)
    )
    fits = [LogisticRegression(C=c, max_iter=5000).fit(seen, rows[0].labels) for c in (1, 10, 100)]
    best = min(log_loss(rows[1].labels, fit.predict_proba(unseen)) for fit in fits)
    assert run.best.validation_log_loss < best + 0.02


def test_frozen_members_keep_every_bit_and_trained_ones_do_not(job, folder, tmp_path):
    run = trained(job(scene(), ["above", "both", "reader"]), tmp_path / "run")
    composite = run.model.composite
    fresh = job(scene(), ["above", "both", "reader"]).start().model.composite
    assert not same([*composite.module("above").parameters()], [*fresh.module("above").parameters()])
    assert "below" in composite.part.outside


def test_the_whole_graph_from_what_its_heads_learned_is_better_than_frozen_members(job, folder, tmp_path):
    heads = trained(job(scene()), tmp_path / "heads").best.validation_log_loss
    whole = trained(job(scene(), "all", Training(epochs=12, learning_rate=1e-2)), tmp_path / "all")
    assert whole.best.validation_log_loss < heads - 0.05


def test_the_spec_that_is_written_answers_what_training_judged(job, folder, rows, tmp_path):
    spec = scene("feature_attention", options={"width": 24, "heads": 2})
    run = trained(job(spec, "all"), tmp_path / "run")
    written = write_trained(spec, folder, run, None, tmp_path / "spec")
    fused = OfflineGraph(written, tmp_path / "spec", rows[1].inputs).node("answer").aligned
    picked = np.log(fused[np.arange(len(fused)), rows[1].labels])
    assert -picked.mean() == pytest.approx(run.best.validation_log_loss, abs=1e-5)
    assert written.fusions["both"].options["widths"] == {"above": 24, "below": 24}


@pytest.mark.parametrize("what", ["heads", "all"])
def test_the_same_seed_gives_the_same_bits_and_a_run_that_was_cut_off_comes_to_them_too(job, tmp_path, what):
    objective = Objective()  # with members left out, which draws
    whole = trained(job(scene(), what, objective=objective), tmp_path / "whole")

    def cut(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job(scene(), what, objective=objective), tmp_path / "cut", cut)
    again = trained(job(scene(), what, objective=objective), tmp_path / "cut")
    assert again.history == whole.history
    assert same(bits(again), bits(whole))
    other = trained(job(scene(), what, replace(FEW, seed=1), objective), tmp_path / "other")
    assert not same(bits(other), bits(whole))


def test_a_last_batch_of_one_row_is_left_out_since_batch_norm_knows_no_deviation_of_it(folder, job, tmp_path):
    fields = scene_fields()
    fields["members"]["reader"]["model"] = "eyes_of_a_scene:normed"
    one = job(parse_spec(fields))
    odd = replace(one, rows=one.rows.rows(torch.arange(129)))
    assert len(trained(odd, tmp_path).history) == FEW.epochs


def test_a_run_is_not_taken_up_with_other_settings(job, tmp_path):
    trained(job(scene()), tmp_path)
    with pytest.raises(TuningError, match="begun with another spec, other rows or settings"):
        trained(job(scene(), training=replace(FEW, learning_rate=0.1)), tmp_path)


def test_modalities_left_out_in_training_cost_less_when_they_are_missing(job, folder, rows, tmp_path):
    """A gated fusion without dropout has never seen one eye alone."""
    spec = scene("gated_fusion", options={"width": 24})
    blind = {"upper": rows[1].inputs["upper"], "lower": np.full_like(rows[1].inputs["lower"], np.nan)}

    def accuracy(rate):
        how = Training(epochs=8, learning_rate=1e-2)
        run = trained(job(spec, "all", how, Objective(member_dropout=rate)), tmp_path / f"{rate}")
        written = write_trained(spec, folder, run, None, tmp_path / f"spec-{rate}")
        node = OfflineGraph(written, tmp_path / f"spec-{rate}", blind).node("answer")
        assert node.present.all()
        return (node.aligned.argmax(axis=1) == rows[1].labels).mean()

    assert accuracy(0.4) > accuracy(0.0) + 0.05


def test_members_of_one_modality_are_left_out_together_and_every_row_keeps_one():
    fields = scene_fields()
    fields["members"]["twin"] = dict(fields["members"]["above"])
    fields["fusions"]["both"]["members"].append("twin")
    fields["members"]["reader"]["config"]["width"] += 24
    spec = parse_spec(fields)
    groups = modalities(spec, trained_part(spec))
    assert groups["above"] == groups["twin"] != groups["below"]
    kept = left_out(groups, 1000, 0.5, "cpu")
    assert torch.equal(kept["above"], kept["twin"])
    assert (kept["above"] | kept["below"]).all()
    assert 0.2 < kept["above"].float().mean() < 0.9


def test_consistency_on_rows_without_labels_brings_answers_without_a_modality_nearer(job, folder, rows, tmp_path):
    spec = blind_scene()
    few = rows[0].rows(slice(0, 60))

    def apart(consistency):
        part = trained_part(spec, "all")
        seen = labelled_columns(spec, folder, part, few)
        others = columns_of(spec, folder, part, rows[0].rows(slice(60, None)).inputs)
        how = Training(epochs=30, batch_size=20, learning_rate=1e-2, patience=30)
        one = replace(
            job(spec, "all", how, Objective(consistency=consistency, member_dropout=0.4)), rows=seen, unlabelled=others
        )
        run = trained(one, tmp_path / f"{consistency}")
        judged = labelled_columns(spec, folder, part, rows[1])
        nobody = {**judged.there, "below": torch.zeros(len(judged), dtype=torch.bool)}
        with torch.inference_mode():
            whole, _ = run.answer(run._run(judged, 0.0))
            half, _ = run.answer(run._run(replace(judged, there=nobody), 0.0))
        return float(imitation("classes", half, whole, 1.0).mean())

    assert apart(5.0) < 0.8 * apart(0.0)


def test_a_learned_rule_is_fitted_on_rows_that_its_members_have_not_seen(job, rows, tmp_path):
    spec = two_heads("stacking", options={"over": "logits"})
    how = Training(epochs=30, batch_size=16, learning_rate=1e-2, patience=30)
    one = job(spec, "all", how)
    few = replace(one, rows=one.rows.rows(torch.arange(200)))
    seen = trained(few, tmp_path / "seen").outputs(few.rows)
    titles = []

    def train(part, title):
        titles.append(title)
        return trained(part, tmp_path / title)

    unseen = out_of_fold_outputs(few, rows[0].rows(slice(0, 200)), 3, train)
    assert titles == ["fold 1 of 3", "fold 2 of 3", "fold 3 of 3"]
    for (known, _), (left_out_of, there) in zip(seen, unseen, strict=True):
        assert there.all()
        losses = [nn.functional.nll_loss(said.log(), one.rows.labels[:200]) for said in (known, left_out_of)]
        assert losses[0] < 0.7 * losses[1]
    rule = fit_rule(spec.output_fusion, unseen, rows[0].rows(slice(0, 200)), 0.2, 0)
    assert rule.name == "stacking"


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (["nobody"], "name members or fusions: above, answer, below, both, reader"),
        ("everything", "give heads, all, or a list of names"),
    ],
)
def test_what_is_no_part_is_refused_with_what_there_is(what, sentence):
    with pytest.raises(TuningError, match=sentence):
        trained_part(scene(), what)


def test_what_is_no_network_is_refused_in_words(folder, job):
    fields = scene_fields()
    fields["members"]["above"] |= {"model": "eyes_of_a_scene:plain", "config": {}, "weights": None}
    with pytest.raises(TuningError, match=r"members\.above: eyes_of_a_scene:plain makes no torch\.nn\.Module"):
        job(parse_spec(fields), ["above"]).start()


def test_a_head_that_does_not_fit_what_it_reads_is_told_with_the_widths(folder, job):
    fields = scene_fields()
    fields["members"]["reader"]["config"]["width"] = 7
    with pytest.raises(TuningError, match=r"members\.reader: it fails on \[2, 48\]"):
        job(parse_spec(fields)).start()


def test_two_workers_come_to_what_one_process_comes_to(cluster, job, tmp_path):
    alone = trained(job(scene(), "all"), tmp_path / "alone")
    shared = run_on_workers(job(scene(), "all"), tmp_path / "shared", 2)
    for one, other in zip(shared.history, alone.history, strict=True):
        assert one.validation_log_loss == pytest.approx(other.validation_log_loss, rel=1e-3)
    # AdamW's first steps have one size whatever the gradient: where that is next to 0, its rounding decides the sign.
    apart = torch.cat([(one - other).abs().flatten() for one, other in zip(bits(shared), bits(alone), strict=True)])
    assert apart.quantile(0.99) < 1e-3
