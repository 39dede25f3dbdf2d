"""Schemathesis against ``/openapi.json`` behind a token; ``make test-openapi`` installs it, its own environment."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from quorate.deployments import Doors

OWN = Path(__file__).parents[4] / ".venv-openapi" / "bin" / "schemathesis"
COMMAND = str(OWN) if OWN.exists() else shutil.which("schemathesis")
TOKEN = "0123456789abcdef" * 3
# Described to refuse whatever is asked, as Triton refuses what is switched off: with 400, 501 or 503.
OFF = "logging|trace|sharedmemory|repository/models"
# A schema cannot say that a length fits the body, or that data fits shape and datatype: 400 is right then.
NOT_ASKED = "positive_data_acceptance"


@pytest.fixture(scope="module")
def guarded(open_doors, pair_spec):
    # Warnings are errors in this process: members that raise none when a body's text is read as huge numbers.
    members = {name: {**member, "model": "known:fragile"} for name, member in pair_spec["members"].items()}
    digest = (hashlib.sha256(TOKEN.encode()).hexdigest(),)
    return open_doors({**pair_spec, "members": members}, Doors(ask_tokens=digest, management_tokens=digest))


@pytest.mark.slow
@pytest.mark.skipif(COMMAND is None, reason="make test-openapi installs schemathesis")
@pytest.mark.parametrize(
    "choice",
    [
        ["--exclude-path-regex", OFF, "--exclude-checks", NOT_ASKED],
        ["--include-path-regex", OFF, "--exclude-checks", f"{NOT_ASKED},not_a_server_error"],
    ],
    ids=["what is served", "what is off"],
)
def test_schemathesis_finds_no_answer_that_is_not_described(guarded, choice, tmp_path):
    assert COMMAND is not None
    command = [COMMAND, "run", f"{guarded.http}/openapi.json", "-H", f"Authorization: Bearer {TOKEN}"]
    command += ["--max-examples", "20", "--seed", "1", "--no-color", *choice]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert "Tested" in done.stdout
