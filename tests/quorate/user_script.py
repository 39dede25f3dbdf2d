"""What a user writes, for the type checker alone: ``test_types.py`` runs mypy over it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import assert_type

import quorate

rows = np.zeros((4, 8), np.float32)


def everything_the_command_line_can_do() -> None:
    spec = quorate.load_spec("digits.yaml")
    assert_type(spec, quorate.EnsembleSpec)
    quorate.save_spec(spec, Path("copy.yaml"))
    assert_type(quorate.validate(spec, folder="."), quorate.Validation)
    assert_type(quorate.plan("digits.yaml"), quorate.Plan)
    assert_type(quorate.manifest("digits.yaml", platform="helm", output="chart"), quorate.Manifest)
    assert_type(quorate.ray_up("digits.yaml", "cluster", head="10.0.0.1", workers=["10.0.0.2"]), quorate.Manifest)
    assert_type(quorate.demo(full=False).choice.verdict, str)

    doors = quorate.Doors(host="127.0.0.1")
    with quorate.deploy("digits.yaml", http_port=0, doors=doors, on_step=print) as ensemble:
        assert_type(ensemble, quorate.Ensemble)
        answer = ensemble.infer(image=rows, deadline_ms=50)
        assert_type(answer, quorate.Result)
        assert_type(len(answer.outputs["fused"]), int)
        ensemble.publish({"weights": {"cnn": 0.7, "rnn": 0.3}})
        assert_type(ensemble.rollback(), quorate.RolledBack)
        assert_type(ensemble.status(), quorate.EnsembleStatus)
        assert_type(ensemble.down().stopped, tuple[str, ...])

    quorate.deploy("digits.yaml", otlp_endpoint="http://collector:4317", trace_ratio=0.01, log_format="json")
    assert_type(quorate.connect("digits"), quorate.Ensemble)
    assert_type(quorate.status(), quorate.Status)
    assert_type([one.name for one in quorate.status(online=True)], list[str])
    assert_type(quorate.query("digits", "rows.npy", explain=True), quorate.Result)
    assert_type(quorate.query_file("digits", "rows.parquet", "answers.parquet"), quorate.Answered)
    assert_type(quorate.bench("digits", clients=4), quorate.BenchResult)
    assert_type(quorate.rollback("digits"), quorate.RolledBack)
    assert_type(quorate.shadow("digits", "other.yaml").shadows[0].rows, int)
    assert_type(quorate.shadow("digits", "candidate.yaml", share=0.05).shadows[0].share, float)
    assert_type(quorate.shadow("digits", report=True), quorate.Shadows)
    assert_type(quorate.drift("digits").drifted, bool)
    assert_type(quorate.replay("records/digits", drift=True).drift, quorate.DriftReport | None)
    assert_type(quorate.convert("model.pt", to="safetensors"), quorate.Converted)
    assert_type(quorate.logs("digits", "cnn", lines=50, since_s=600), quorate.Logs)
    assert_type(next(quorate.follow_logs("digits", "cnn", lines=50, since_s=600)), quorate.Logs)
    assert_type(quorate.import_autogluon("AutogluonModels/ag", out="house-prices"), quorate.Imported)
    assert_type(quorate.feedback("digits", "labels.csv"), quorate.FeedbackReply)
    assert_type(quorate.replay("/var/lib/quorate/digits", spec).exact, int)
    assert_type(quorate.replay("s3://records/digits", online=True), quorate.Replay)
    assert_type(quorate.down(), quorate.Stopped)


def first_steps() -> None:
    assert_type(quorate.doctor(), quorate.Diagnosis)
    assert_type(quorate.schema()["title"], Any)
    assert_type(quorate.dashboards("monitoring"), quorate.Dashboards)
    assert_type(quorate.curl("digits", {"image": rows}), str)
    assert_type(quorate.init("models", "rows.csv", label="target"), quorate.FirstSpec)
    assert_type(quorate.try_spec("digits.yaml", {"image": rows}, explain=True), quorate.Tried)


def tuning(labelled: quorate.Labelled, splits: quorate.Splits) -> None:
    assert_type(quorate.tune("digits.yaml", "rows.npz"), quorate.TuneResult)
    assert_type(quorate.tune("digits.yaml", labelled, metric="f1_macro", refit=False).choice.recommended, str)
    assert_type(quorate.tune("runs/digits-1", more="new.npz", train_on=True, epochs=3), quorate.TuneResult)
    assert_type(quorate.tune(predictions="oof.parquet", max_error=0.01), quorate.PredictionsResult)
    assert_type(quorate.tune("digits.yaml", labelled, max_loss=0.01, confidence=0.9), quorate.TuneResult)
    assert_type(quorate.train("digits.yaml", "rows.npz", what="all").tuned, quorate.TuneResult | None)
    assert_type(quorate.train("digits.yaml", train=labelled, what=["head"], workers=2), quorate.TrainResult)
    found = quorate.sweep("digits.yaml", splits, space=quorate.SearchSpace(name="digits"), trials=3)
    assert_type(found, quorate.SweepResult)
    assert_type(quorate.resume(found.folder), quorate.SweepResult)
    there = quorate.tune("digits.yaml", "rows.npz", address="http://head:8265")
    assert_type(there, quorate.TuneResult | quorate.OutputsResult | quorate.JobRun)
    assert_type(quorate.compress("digits.yaml", "train.npz", "rows.npz"), quorate.Compression)
    try:
        assert_type(quorate.promote(found.folder, canary=0.1), quorate.Promotion)
    except quorate.QuorateError as error:
        print(error, quorate.__version__)


def several_outputs(rows_of_both: quorate.LabelledOutputs) -> None:
    labels = {"mood": "Mood"}
    tuned = quorate.tune("desk.yaml", "rows.npz", label=labels, metric={"mood": "brier"}, min_gain={"mood": 0.01})
    assert_type(tuned, quorate.OutputsResult)
    assert_type(tuned["mood"], quorate.TuneResult)
    assert_type(quorate.tune("desk.yaml", rows_of_both, label={}, coverage=0.9).spec, quorate.EnsembleSpec)
    assert_type(quorate.train("desk.yaml", "rows.npz", label=labels), quorate.OutputsTraining)
    assert_type(quorate.compress("desk.yaml", "train.npz", "rows.npz", label=labels), quorate.OutputsCompression)
    assert_type(quorate.promote(tuned.folder, pick={"mood": "uniform"}), quorate.Promotion)
    assert_type(quorate.query("desk", "rows.npy", outputs=["mood"])["mood"], quorate.Result)


def asking() -> None:
    with quorate.Client("http://127.0.0.1:8000", credentials=quorate.Credentials(token="t"), model="words") as client:
        assert_type(client.infer(text=["good", "bad"], age=[39, 40], members="cnn"), quorate.Result)
        assert_type(client.infer("words", {"text": "good"}), quorate.Result)
        answer = client.infer(text=["good", "bad"])
        assert_type(client.feedback(answer, ["yes", "no"]), quorate.FeedbackReply)
        assert_type(client.feedback([quorate.GivenLabel("id", "yes")]).counts["accepted"], int)
    doors = ("http://10.0.0.1:8000", "http://10.0.0.2:8000")
    with quorate.Client(doors, model="words") as client, quorate.connect("words", url=doors) as ensemble:
        assert_type(client.infer(text="good"), quorate.Result)
        assert_type(ensemble.urls, tuple[str, ...])
    assert_type(quorate.query("words", {"text": ["good"]}, url=list(doors)), quorate.Result)
    assert_type(quorate.bench("words", url=doors), quorate.BenchResult)
    target, options = quorate.grpc_target(["10.0.0.1:8001", "10.0.0.2:8001"])
    assert_type(target, str)
    assert_type(options, list[tuple[str, str | int]])


async def asking_on_an_event_loop() -> AsyncIterator[int]:
    async with quorate.AsyncClient("http://127.0.0.1:8000", model="digits") as client:
        assert_type(await client.infer(image=rows), quorate.Result)
        await client.publish({"weights": {"cnn": 1.0}})
        async for answer in client.infer_arrow(rows):
            yield len(answer.parameters)
