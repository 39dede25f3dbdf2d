"""Whether objects are what Kubernetes and KubeRay take: by their own schemas, and no field but theirs."""

from __future__ import annotations

import functools
import json
from typing import Any

import kubernetes_validate
import pytest
from jsonschema import Draft202012Validator

from tests.cluster.support.every_spec import ROOT

# KubeRay's, with the commit that they are of; see its README.
SCHEMAS = ROOT.parent / "shared" / "schemas"
KUBERNETES = "1.34"


def check_objects(objects: Any) -> None:
    """Fail with everything that is wrong in one of them; skip KubeRay's own where its schemas are not at hand."""
    for found in objects:
        if found["kind"] != "RayService":
            kubernetes_validate.validate(dict(found), KUBERNETES, strict=True)
    services = [found for found in objects if found["kind"] == "RayService"]
    if not SCHEMAS.is_dir():
        pytest.skip("KubeRay's schemas are not beside this repository: ../shared/schemas")
    for service in services:
        wrong = [
            f"{'.'.join(map(str, e.absolute_path))}: {e.message[:300]}" for e in _of_kuberay().iter_errors(service)
        ]
        assert not wrong, wrong


@functools.cache
def _of_kuberay() -> Draft202012Validator:
    found = json.loads((SCHEMAS / "ray.io_rayservices.json").read_text())
    return Draft202012Validator(_strict(found["versions"]["v1"]))


def _strict(schema: Any) -> Any:
    """As the API server checks with ``--validate=strict``: an unknown field is an error, not dropped."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _strict(value) for key, value in schema.items() if key != "format"}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    free = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and not free:
        kept["additionalProperties"] = False
    return kept
