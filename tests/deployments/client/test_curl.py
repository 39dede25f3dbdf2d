"""The line of curl gives what the client gives; a token does not stand in it."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest

from quorate.deployments import Client, Credentials
from quorate.deployments.client.curl import curl_line
from quorate.deployments.errors import RequestError

ROWS = np.array([[0.5, 1.0], [2.0, -1.0]], np.float32)
NONE = Credentials()


def line_of(array, **parameters):
    return curl_line("http://here/v2/models/m/infer", {"x": array}, parameters, NONE)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_the_line_asks_what_the_client_asks(pair):
    with Client(pair.http, model="pair") as client:
        line, answer = client.curl(x=ROWS.tolist(), members="a"), client.infer(x=ROWS, members="a")
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=20, check=True)
    found = json.loads(done.stdout)
    assert found["parameters"]["members_used"] == "a"
    np.testing.assert_array_equal(np.array(found["outputs"][0]["data"], np.float32), answer.outputs["fused"].ravel())


def test_a_token_is_read_from_the_environment():
    shown = curl_line("https://here/v2/models/m/infer", {"x": ROWS}, {}, Credentials("t" * 40, ca="my ca.pem"))
    assert "t" * 40 not in shown
    echoed = subprocess.run(
        f"printf '%s\\n' {shown.removeprefix('curl ')}", shell=True, capture_output=True, text=True, check=True,
        env={**os.environ, "QUORATE_TOKEN": "secret"},
    ).stdout.splitlines()  # fmt: skip
    assert "Authorization: Bearer secret" in echoed
    assert "my ca.pem" in echoed


def test_text_with_quotes_stays_one_word_of_the_shell():
    text = np.array(['it\'s "quoted" $HOME `ls` \u00e9'])
    words = line_of(text).removeprefix("curl ")
    done = subprocess.run(f"printf '%s\\n' {words}", shell=True, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["inputs"][0]["data"] == text.tolist()


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.array([b"\xff"], object), "bytes that are no text"),
        (np.array([np.nan], np.float32), "NaN or infinity"),
        (np.zeros(200_000, np.float32), "too long for a line; give fewer rows"),
    ],
)
def test_what_a_line_cannot_hold_is_refused_in_words(array, sentence):
    with pytest.raises(RequestError, match=sentence):
        line_of(array)
