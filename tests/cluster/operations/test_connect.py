"""A running ensemble as an object, where only its HTTP door is in reach."""

import subprocess
import sys

import numpy as np
import pytest

import quorate
from quorate.deployments.errors import ClusterError, UnavailableError

ROWS = np.zeros((2, 2), np.float32)


def test_over_its_url_it_answers_and_shows_itself(pair):
    with quorate.connect("pair", url=pair.http) as ensemble:
        answers = ensemble.infer(x=ROWS), ensemble.infer({"x": ROWS.tolist()})
        np.testing.assert_array_equal(answers[0].outputs["fused"], answers[1].outputs["fused"])
        assert repr(ensemble) == f"pair answers at {pair.http}"
        assert ensemble._repr_html_() == f"<div>pair answers at {pair.http}</div>"
        with pytest.raises(UnavailableError, match="no revision can be published"):
            ensemble.publish({"weights": {"a": 1.0, "b": 0.0}})


def test_it_takes_several_urls_and_goes_on_to_one_that_answers(pair):
    gone = "http://127.0.0.1:9"
    with quorate.connect("pair", url=[gone, pair.http]) as ensemble:
        assert ensemble.infer(x=ROWS).parameters["members_used"] == "a,b"
        assert (ensemble.url, ensemble.urls) == (gone, (gone, pair.http))
        assert repr(ensemble) == f"pair answers at {gone}, {pair.http}"
    asked = quorate.query("pair", {"x": [[0.5, 1.0]]}, url=f"{gone},{pair.http}")
    assert asked.outputs["fused"].shape == (1, 3)


@pytest.mark.parametrize("what", ["status", "rollback", "down"])
def test_what_needs_the_cluster_says_so(pair, what):
    with (
        quorate.connect("pair", url=pair.http) as ensemble,
        pytest.raises(ClusterError, match=f"{what} needs"),
    ):
        getattr(ensemble, what)()


def test_a_door_says_which_ensemble_it_is_to(pair):
    for ensemble in (quorate.connect(pair.http), quorate.connect(url=[pair.http])):
        with ensemble:
            assert (ensemble.name, ensemble.url) == ("pair", pair.http)
            assert ensemble.infer(x=ROWS).outputs["fused"].shape == (2, 3)
    with pytest.raises(UnavailableError):
        quorate.connect("http://127.0.0.1:9")


def test_a_door_is_connected_to_without_ray(pair):
    hidden = "import sys; sys.modules.update(dict.fromkeys(['ray', 'torch', 'pyarrow']))"
    code = f"{hidden}; import quorate; quorate.connect({pair.http!r}).infer(x=[[0.5, 1.0]])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_rows_in_memory_are_asked_like_a_file(pair):
    asked = quorate.query("pair", {"x": [[0.5, 1.0]]}, url=pair.http, explain=True)
    assert asked.outputs["fused"].shape == (1, 3)
    assert set(asked.to_dict()) == {"outputs", "parameters", "classes"}
    assert "share" in repr(asked)


def test_where_no_local_cluster_runs_nothing_does(tmp_path, monkeypatch):
    monkeypatch.setenv("QUORATE_HOME", str(tmp_path))
    monkeypatch.setattr("quorate.cluster.local.connection._joined", lambda: False)
    assert len(quorate.status()) == 0
    assert repr(quorate.status()) == "nothing runs; quorate deploy SPEC starts an ensemble"
    assert repr(quorate.down()) == "nothing was running"
    with pytest.raises(ClusterError, match="no local cluster runs"):
        quorate.connect("pair")
    with pytest.raises(KeyError):
        quorate.status()["pair"]


def test_a_query_as_a_line_of_curl_is_what_the_client_would_ask(pair):
    line = quorate.curl("pair", {"x": [[0.5, 1.0]]}, url=pair.http, deadline_ms=900)
    assert line.startswith(f"curl -sS {pair.http}/v2/models/pair/infer ")
    assert '"data":[0.5,1.0]' in line
    assert '"deadline_ms":900' in line


def test_bench_asks_about_given_rows_in_turn(pair, tmp_path):
    file = tmp_path / "rows.npy"
    np.save(file, np.array([[0, 0], [1, 1], [2, 2]], np.float64))
    result = quorate.bench("pair", inputs=file, url=pair.http, clients=2, duration_s=0.2)
    assert (result.errors, result.requests > 0) == (0, True)
