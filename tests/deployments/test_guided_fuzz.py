"""What reads bytes of strangers, under Atheris: mutations are led by the code that they reach."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deployments.support.wire_parsers import WIRE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[2]
# Together ten minutes.
SECONDS = int(os.environ.get("QUORATE_FUZZ_SECONDS", str(600 // len(WIRE))))
# Of one text, where it never ends; of the process, with all that it imports.
LIMIT_S, LIMIT_MIB = 120, 4096


@pytest.mark.parametrize("what", WIRE)
def test_no_text_that_reaches_new_code_is_an_error_or_takes_long(tmp_path, what):
    pytest.importorskip("atheris", reason="needs Atheris: Linux, Python 3.11 to 3.13")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "good").write_bytes(WIRE[what].good)
    limits = {"max_total_time": SECONDS, "timeout": LIMIT_S, "rss_limit_mb": LIMIT_MIB, "print_final_stats": 1}
    options = [f"-{name}={value}" for name, value in {**limits, "artifact_prefix": f"{tmp_path}/"}.items()]
    command = [sys.executable, "-m", "tests.deployments.support.guided_fuzz", what, *options, str(corpus)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = [path.read_bytes()[:300] for path in tmp_path.iterdir() if path.is_file()]
    assert done.returncode == 0, f"{found}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    (texts,) = re.findall(r"number_of_executed_units: *([0-9]+)", done.stderr)
    kept = len(list(corpus.iterdir()))
    print(f"{what}: {texts} texts, {kept} kept for the code that they reach")
    assert kept > 1
