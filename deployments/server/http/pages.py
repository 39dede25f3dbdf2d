"""The pages for people: ``/``, what is served and a form to try it, and ``/docs``, the OpenAPI document to read.

Each is one self-contained answer that loads nothing from anywhere; the policy in its header lets nothing else run.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from html import escape
from importlib.resources import files
from typing import Any

from quorate.deployments.server.compression import Headers

_METHODS = ("get", "post", "put", "delete")


@functools.cache
def home() -> tuple[Headers, bytes]:
    """Headers and body of ``/``: the same for everyone, it asks the server for what it shows."""
    return _page("Quorate", _part("page.html"), _part("page.js"))


def docs(document: Mapping[str, Any]) -> tuple[Headers, bytes]:
    """Headers and body of ``/docs``.

    Args:
        document: what ``/openapi.json`` gives.
    """
    info = document["info"]
    operations = "".join(
        _operation(method, path, item)
        for path, item in document["paths"].items()
        for method in _METHODS
        if method in item
    )
    schemas = "".join(_schema(name, schema) for name, schema in document["components"]["schemas"].items())
    head = (
        f"<header><h1>{_text(info['title'])} {_text(info['version'])}</h1><p>{_text(info['description'])}</p></header>"
    )
    body = f"{head}<main><h2>Endpoints</h2>{operations}<h2>Schemas</h2>{schemas}</main>"
    return _page(f"{info['title']}: endpoints", body, "")


def _operation(method: str, path: str, item: Mapping[str, Any]) -> str:
    operation = item[method]
    parameters = [*item.get("parameters", []), *operation.get("parameters", [])]
    rows = [(f"{p['name']} ({p['in']})", _shown(p["schema"]) + _about(p)) for p in parameters]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        rows.append(("body", f"{_text(kind)} {_shown(content.get('schema', {}))}"))
    for status, response in operation["responses"].items():
        content = " ".join(_shown(c.get("schema", {})) for c in response.get("content", {}).values())
        rows.append((status, f"{_text(response['description'])} {content}"))
    table = "".join(f"<tr><th>{_text(name)}</th><td>{about}</td></tr>" for name, about in rows)
    title = f"<b>{method.upper()}</b> <code>{_text(path)}</code> {_text(operation['summary'])}"
    return f"<details><summary>{title}</summary><table>{table}</table></details>"


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    return f'<details id="{_text(name)}"><summary><code>{_text(name)}</code></summary><p>{_shown(schema)}</p></details>'


def _shown(schema: Mapping[str, Any]) -> str:
    """A schema in the shape of what it describes; a named one as a link."""
    if not schema:
        return ""
    return f"<code>{''.join(_parts(schema))}</code>"


def _parts(schema: Mapping[str, Any]) -> Iterator[str]:
    kind = schema.get("type", "any")
    if "$ref" in schema:
        name = _text(schema["$ref"].rpartition("/")[2])
        yield f'<a href="#{name}">{name}</a>'
    elif "enum" in schema:
        yield _text(" | ".join(json.dumps(value) for value in schema["enum"]))
    elif kind == "array":
        yield from ("[", *_parts(schema.get("items", {})), ", ...]")
    elif kind == "object" and schema.get("properties"):
        required = schema.get("required", [])
        fields = (
            f"{_text(name)}{'' if name in required else '?'}: {''.join(_parts(part))}"
            for name, part in schema["properties"].items()
        )
        yield f"{{{', '.join(fields)}}}"
    elif isinstance(schema.get("additionalProperties"), dict):
        yield from ("{name: ", *_parts(schema["additionalProperties"]), "}")
    else:
        yield _text(" | ".join(kind) if isinstance(kind, list) else kind)


def _about(parameter: Mapping[str, Any]) -> str:
    return f" {_text(parameter['description'])}" if "description" in parameter else ""


def _page(title: str, body: str, script: str) -> tuple[Headers, bytes]:
    style = _part("page.css")
    scripts = f"<script>{script}</script>" if script else ""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{style}</style></head><body>{body}{scripts}</body></html>"
    )
    allowed = {"default-src": "'none'", "style-src": _hash(style), "connect-src": "'self'", "base-uri": "'none'"}
    allowed |= {"form-action": "'none'", "frame-ancestors": "'none'"}
    if script:
        allowed["script-src"] = _hash(script)
    policy = "; ".join(f"{what} {where}" for what, where in allowed.items())
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-store"),
    ]
    return headers, text.encode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(value: object) -> str:
    return escape(str(value))


@functools.cache
def _part(name: str) -> str:
    return files("quorate.deployments.server.http").joinpath(name).read_text(encoding="utf-8")
