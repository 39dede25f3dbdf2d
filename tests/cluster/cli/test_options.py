"""Options: each is an argument of the Python call, and one that a call would not read is refused."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

import quorate
from quorate.cluster.cli import door_options
from quorate.cluster.cli.main import app
from quorate.cluster.operations.deploy import foreground


def run(*words):
    done = CliRunner().invoke(app, words)
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("tune s.yaml --data d.npz --trials 9 --workers 5", "--trials, --workers are for --search architecture"),
        ("tune s.yaml --data d.npz --search architecture --time soon", "'soon' is no time from 1 s on"),
        ("tune --predictions p.csv --epochs 3", "--epochs is for SPEC and --data, without --predictions"),
        ("tune s.yaml --data d.npz --epochs 3", "--epochs is for --train"),
        ("tune s.yaml --data d.npz --search architecture --folds 3", "--folds is for --search weights"),
        ("tune --resume run --seed 3", "--seed is for a new search, without --resume"),
        ("tune s.yaml --data d.npz --label a=x --label b", "--label 'b' names no output, or one twice"),
        ("tune s.yaml --data d.npz --min-gain a=much", "--min-gain 'much' is no number of 0 or more"),
        ("tune s.yaml --data d.npz --confidence 0.9", "--confidence is for --max-loss or --max-error"),
        ("tune --data d.npz --search architecture --no-refit", "--refit is for --search weights"),
        ("tune --resume run --max-loss 0.1", "--max-loss is for a new search, without --resume"),
        ("tune runs/r --more d.npz --epochs 3", "--epochs is for --more with --train-on, or for --data without --more"),
        ("tune s.yaml --data d.npz --train-on", "--train-on is for --more"),
        ("tune runs/r --more d.npz --search architecture", "--more is for --search weights"),
        ("tune s.yaml", "give SPEC and --data, RUN and --more, --predictions FILE, or --resume RUN"),
        ("train s.yaml --data d.npz --consistency 2", "--consistency is for --unlabelled"),
        ("train s.yaml --unlabelled u.npz --metric brier", "--metric is for --data"),
        ("compress s.yaml --train t.npz --data d.npz --width 3", "--width is for --student"),
        ("deploy s.yaml --address auto --foreground", "--foreground is for the local cluster, without --address"),
        ("query a --input r.npy --url http://h --address auto", "--address is for an ensemble that is looked up"),
        ("bench a --url http://h --address auto", "--address is for an ensemble that is looked up"),
        ("demo --full", "--full is for --data"),
        ("shadow a s.yaml --canary 10%", "--canary is for --promote"),
        ("shadow a --share 5%", "--share is for a spec that is made a shadow"),
        ("logs a --since soon", "'soon' is no time from 1 s on"),
        ("bench a --column x=y", "--column is for --input"),
        ("query a --input r.npy --column x", "'x' names no column, or an input twice; write price=Price"),
        ("query a --input r.npy --column x=a --column x=b", "'x=b' names no column, or an input twice"),
    ],
)
def test_an_option_of_another_use_is_refused(words, sentence):
    code, printed = run(*words.split())
    assert (code, sentence in printed) == (2, True), printed


def test_a_sweep_is_taken_up_with_the_rows_that_are_given(monkeypatch):
    asked: dict[str, str] = {}

    def resume(folder, data, **options):
        asked.update(run=str(folder), data=str(data))
        raise KeyboardInterrupt

    monkeypatch.setattr("quorate.cluster.operations.tuning.sweep.resume", resume)
    run("tune", "--resume", "run", "--data", "moved.npz")
    assert asked == {"run": "run", "data": "moved.npz"}


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("8m", 480), ("1.5h", 5400)])
def test_a_search_needs_no_spec_and_its_time_has_a_unit(monkeypatch, text, seconds):
    asked = []

    def sweep(spec, data, **options):
        asked.append((spec, str(data), options["time_s"]))
        raise KeyboardInterrupt

    monkeypatch.setattr("quorate.cluster.operations.tuning.sweep.sweep", sweep)
    run("tune", "--data", "rows.npz", "--search", "architecture", "--time", text)
    assert asked == [(None, "rows.npz", seconds)]


# A command may stand for several functions, and an option for a part of an argument.
FUNCTIONS: dict[str, list[Callable[..., Any]]] = {
    "deploy": [quorate.deploy, foreground],
    "import_": [quorate.import_autogluon],
    "manifest": [quorate.manifest, quorate.ray_up],
    "logs": [quorate.logs, quorate.follow_logs],
    "query": [quorate.query, quorate.query_file, quorate.curl],
    "tune": [quorate.tune, quorate.sweep, quorate.resume],
}
DOORS = dict.fromkeys(inspect.signature(door_options.doors).parameters, "doors")
CREDENTIALS = dict.fromkeys(["auth_token_file", "ca", "cert", "key"], "credentials")
ARGUMENTS = {
    "input_file": "rows", "column": "columns", "output_file": "output",
    "canary_seconds": "canary_s", "since": "since_s", "objective": "objectives", "factory": "factories",
    "config": "configs", "accelerator": "accelerators", "worker": "workers",
}  # fmt: skip
# Which of its functions a command calls, and how it prints what comes back.
COMMAND_LINE_ONLY = {"context", "as_json", "search", "foreground", "curl", "kind", "follow"}
# Objects of Python; a command line has its spec's folder and shows progress itself.
PYTHON_ONLY = {"labels", "folder", "on_step", "on_progress", "callbacks", "space"}


@pytest.mark.parametrize("command", [command.callback for command in app.registered_commands])
def test_every_option_is_an_argument_in_python_and_every_argument_an_option(command):
    name = command.__name__
    arguments = {
        **ARGUMENTS,
        **({"resume": "run"} if name == "tune" else {}),
        **({"input_file": "inputs"} if name == "bench" else {}),
        **({"factory": "factories", "config": "configs"} if name == "init" else {}),
        **(DOORS if name == "deploy" else CREDENTIALS),
    }
    options = {arguments.get(option, option) for option in inspect.signature(command).parameters}
    functions = FUNCTIONS.get(name) or [getattr(quorate, name)]
    known = {argument for function in functions for argument in inspect.signature(function).parameters}
    known = {"time" if name == "tune" and argument == "time_s" else argument for argument in known}
    shown_by_the_object = {"credentials"} if name == "deploy" else set()
    read = {"init": {"folder"}, "import_": {"folder"}, "feedback": {"labels"}}.get(name, set())
    python_only = PYTHON_ONLY - read
    assert options - COMMAND_LINE_ONLY == known - python_only - shown_by_the_object
