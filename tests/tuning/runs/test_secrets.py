"""What is in the environment is in no run folder."""

import os

import pytest

from quorate.tuning import tune_fusion

pytestmark = pytest.mark.long

SECRET = "canary-5f1e77c0ffee"


def test_no_file_of_a_run_holds_a_secret_of_the_environment(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_PASSWORD", SECRET)
    tune_fusion(tiny.spec, tiny.folder, tiny.splits.validation, tiny.splits.test, runs=tmp_path / "runs")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert os.environ["DATABASE_PASSWORD"] == SECRET
    assert not [path.name for path in files if SECRET.encode() in path.read_bytes()]
