"""The pages for people: whole in one answer, nothing loaded from elsewhere, nothing run but what their policy names."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import httpx
import pytest

from quorate.deployments import Doors
from quorate.deployments.learning.online.report import at_doors, read_report
from quorate.deployments.server.http.pages import docs
from tests.deployments.support.learned_report import learned_report


class Page(HTMLParser):
    """What a browser would load, run and show."""

    def __init__(self, reply):
        super().__init__()
        self.loads, self.handlers, self.ids, self.links, self.text = [], [], set(), [], ""
        self.blocks = {"script": "", "style": ""}
        self._inside = ""
        self.policy = dict(part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";"))
        self.feed(reply.text)

    def handle_starttag(self, tag, attrs):
        self._inside = tag
        for name, value in attrs:
            if name in ("src", "action", "data", "srcset") or (name == "href" and tag != "a"):
                self.loads.append(value)
            elif name == "href":
                self.links.append(value)
            elif name.startswith("on") or name == "style":
                self.handlers.append(value)
            elif name == "id":
                self.ids.add(value)

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside in self.blocks:
            self.blocks[self._inside] += data
        else:
            self.text += data


@pytest.fixture(scope="module", params=["/", "/docs"])
def page(request, pair):
    reply = httpx.get(pair.http + request.param)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    return Page(reply)


def digest(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_a_page_loads_nothing_and_runs_only_what_its_policy_names(page):
    assert page.loads == page.handlers == []
    assert page.policy["default-src"] == "'none'"
    assert page.policy["style-src"] == digest(page.blocks["style"])
    assert page.policy.get("script-src", digest("")) == digest(page.blocks["script"])
    assert page.policy["frame-ancestors"] == page.policy["base-uri"] == page.policy["form-action"] == "'none'"
    assert not re.search(r"https?://|//[a-z]|@import|url\(", page.blocks["style"] + page.blocks["script"])


def test_the_script_finds_what_it_looks_for_and_asks_paths_that_are_there(pair):
    page = Page(httpx.get(pair.http))
    script = page.blocks["script"]
    assert set(re.findall(r'find\("([\w-]+)"\)', script)) <= page.ids
    assert not re.search(
        r"innerHTML|insertAdjacentHTML|document\.write|eval\(|localStorage|sessionStorage|cookie", script
    )
    described = httpx.get(f"{pair.http}/openapi.json").json()["paths"]
    asked = re.findall(r'"(GET|POST)", [`"](/[^`"]*)[`"]', script)
    assert len(asked) >= 5
    for method, path in asked:
        assert method.lower() in described[re.sub(r"\$\{.*?\}", "{model}", path)], path


def test_docs_show_every_operation_and_schema(pair):
    document = httpx.get(f"{pair.http}/openapi.json").json()
    page = Page(httpx.get(f"{pair.http}/docs"))
    for path, item in document["paths"].items():
        for method in set(item) & {"get", "post"}:
            assert re.search(rf"{method.upper()} +{re.escape(path)} {re.escape(item[method]['summary'])}", page.text)
    assert page.ids == set(document["components"]["schemas"])
    assert {link.removeprefix("#") for link in page.links} <= page.ids


def test_names_cannot_break_out_of_the_page():
    name = '"><script>alert(1)</script>'
    document = {
        "info": {"title": name, "version": name, "description": name},
        "paths": {f"/{name}": {"get": {"summary": name, "responses": {"200": {"description": name}}}}},
        "components": {"schemas": {name: {"enum": [name]}}},
    }
    assert b"<script" not in docs(document)[1]


def test_behind_a_token_the_page_is_there_and_tells_nothing(open_doors, pair_spec):
    doors = open_doors(pair_spec, Doors(ask_tokens=(hashlib.sha256(b"t" * 40).hexdigest(),)))
    reply = httpx.get(doors.http)
    assert reply.status_code == 200
    assert "pair" not in Page(reply).text
    assert httpx.get(f"{doors.http}/docs").status_code == 401
    document = httpx.get(f"{doors.http}/openapi.json", headers={"authorization": f"Bearer {'t' * 40}"}).json()
    for path, item in document["paths"].items():
        for method in set(item) & {"get", "post"}:
            is_open = path in ("/", "/v2/health/live", "/v2/health/ready", "/-/healthz")
            assert ("401" in item[method]["responses"]) == ("security" in item[method]) == (not is_open)


@pytest.fixture
def learned(open_doors, pair_spec):
    """Of a door whose weights learn: its page, and what the page asks for of them."""
    doors = open_doors({**pair_spec, "name": "learned"})
    assert httpx.get(f"{doors.http}/v2/online").json() == {}
    stored = learned_report(trouble="node 10.0.0.7 has no /secret/path")
    doors.engine.metrics.state.online = at_doors(read_report(stored))
    found = [httpx.get(f"{doors.http}{path}") for path in ("/", "/v2/online", "/metrics", "/openapi.json")]
    return Page(found[0]), found[1], found[2].text, found[3].json()


def test_the_page_is_told_what_weights_that_learn_have_come_to_and_no_error_of_it(learned):
    _, reply, metrics, _ = learned
    found = reply.json()
    (output,) = found["outputs"]
    assert 'quorate_online_changes_total{ensemble="learned",what="taken_back"} 1.0' in metrics
    assert 'quorate_online_relabelled{answered_as="y",class="x",ensemble="learned",output="fused"} 1.0' in metrics
    assert (found["labels"], output["weights"][-1]["labels"], output["weights"][0]["labels"]) == (600, 600, 0)
    assert output["weights"][0]["weights"] == pytest.approx([0.25, 0.75], abs=0.02)
    assert all(sum(point["weights"]) == pytest.approx(1, abs=1e-3) for point in output["weights"])
    names = [rival["name"] for rival in output["standings"][-1]["rivals"]]
    assert [name.partition(",")[0] for name in names] == ["best member", "best fixed mixture", "first weights"]
    assert all(rival["regret"] <= rival["bound"] for at in output["standings"] for rival in at["rivals"])
    assert [one["taken_back"] for one in found["told"]] == [False, True]
    assert (found["waits"], found["left_out_rows"]) == (True, 2)
    assert "secret" not in reply.text


def test_what_the_script_reads_of_weights_that_learn_is_there(learned):
    page, reply, _, document = learned
    found = reply.json()
    (output,) = found["outputs"]
    standing = output["standings"][-1]
    read = {"report": found, "output": output, "standing": standing, "rival": standing["rivals"][0]}
    read |= {"point": output["weights"][0], "one": found["told"][0], "called": output["relabelled"][0]}
    script = page.blocks["script"]
    part = script[script.index("function regretRows") : script.index("function modelRow")]
    for name, value in read.items():
        fields = set(re.findall(rf"\b{name}\.(\w+)", part))
        assert fields, name
        assert fields <= set(value), name
    described = document["components"]["schemas"]["Online"]["properties"]
    assert set(described) == set(found)
