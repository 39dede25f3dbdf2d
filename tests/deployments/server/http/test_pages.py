"""The pages for people: whole in one answer, nothing loaded from elsewhere, nothing run but what their policy names."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import httpx
import pytest

from quorate.deployments import Doors
from quorate.deployments.server.http.pages import docs


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
