"""A Helm chart of the same objects: what operators change between their clusters stands in values.yaml."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from quorate.cluster.manifest.yaml_text import dump

_TEXT, _TREE = "@text ", "@tree "
_TREE_LINE = re.compile(r'^( *(?:- )?)(.*): "@tree (.*)"$', re.MULTILINE)
_GROUP_NUMBERS = ("replicas", "minReplicas", "maxReplicas")


def helm_chart(objects: Sequence[Mapping[str, Any]], version: str) -> dict[str, str]:
    """The chart's files, by their paths.

    Args:
        objects: a manifest's, the RayService first.
        version: of Quorate.
    """
    service = objects[0]
    name = service["metadata"]["name"]
    chart = {
        "apiVersion": "v2", "name": name, "description": f"The ensemble {name}, served by Quorate on KubeRay",
        "type": "application", "version": version, "appVersion": version,
    }  # fmt: skip
    files = {
        "Chart.yaml": dump(chart),
        "values.yaml": dump(_values(service)),
        "serve-config.json": service["spec"]["serveConfigV2"] + "\n",
        "templates/rayservice.yaml": _template(_service_template(service)),
    }
    for found in objects[1:]:
        files[f"templates/{found['kind'].lower()}.yaml"] = _template(_without_namespace(found))
    return files


def _values(service: Mapping[str, Any]) -> dict[str, Any]:
    cluster = service["spec"]["rayClusterConfig"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    return {
        "image": head["containers"][0]["image"],
        "imagePullSecrets": [],
        "head": {"resources": head["containers"][0]["resources"]},
        "workers": {group["groupName"]: _group_values(group) for group in cluster["workerGroupSpecs"]},
    }


def _group_values(group: Mapping[str, Any]) -> dict[str, Any]:
    pod = group["template"]["spec"]
    return {
        **{number: group[number] for number in _GROUP_NUMBERS},
        "resources": pod["containers"][0]["resources"],
        "tolerations": pod.get("tolerations", []),
        "affinity": pod.get("affinity", {}),
        "nodeSelector": {},
    }


def _service_template(service: Mapping[str, Any]) -> dict[str, Any]:
    """The RayService with references in the place of what values.yaml has."""
    found = _without_namespace(service)
    found["spec"]["serveConfigV2"] = f"{_TEXT}config"
    cluster = found["spec"]["rayClusterConfig"]
    _pod_template(cluster["headGroupSpec"]["template"]["spec"], ".Values.head")
    for group in cluster["workerGroupSpecs"]:
        values = f'(index .Values.workers "{group["groupName"]}")'
        for number in _GROUP_NUMBERS:
            group[number] = f"{_TEXT}{values}.{number}"
        pod = group["template"]["spec"]
        _pod_template(pod, values)
        for field in ("tolerations", "affinity", "nodeSelector"):
            pod[field] = f"{_TREE}{values}.{field}"
    return found


def _pod_template(pod: dict[str, Any], values: str) -> None:
    pod["imagePullSecrets"] = f"{_TREE}.Values.imagePullSecrets"
    pod["containers"][0]["image"] = f"{_TEXT}.Values.image"
    pod["containers"][0]["resources"] = f"{_TREE}{values}.resources"


def _without_namespace(found: Mapping[str, Any]) -> dict[str, Any]:
    """A copy; Helm is told a namespace when the chart is installed."""
    copied: dict[str, Any] = copy.deepcopy(dict(found))
    copied["metadata"].pop("namespace", None)
    return copied


def _template(found: Mapping[str, Any]) -> str:
    text = dump(found).replace("{{", '{{ "{{" }}')
    text = text.replace(f'"{_TEXT}config"', '|\n{{ .Files.Get "serve-config.json" | indent 4 }}')
    text = re.sub(rf'"{_TEXT}(\.Values\.image)"', r"{{ \1 | quote }}", text)
    text = re.sub(
        rf'"{_TEXT}\(index \.Values\.workers \\"(.*?)\\"\)(.*?)"', r'{{ (index .Values.workers "\1")\2 }}', text
    )
    return _TREE_LINE.sub(_tree, text)


def _tree(line: re.Match[str]) -> str:
    indent, key, values = line.groups()
    values = values.replace('\\"', '"')
    return f"{indent}{key}: {{{{- toYaml {values} | nindent {len(indent) + 2} }}}}"
