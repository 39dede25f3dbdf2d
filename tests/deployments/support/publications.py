"""Publications of a small ensemble, for tests that only look at what becomes of them."""

from pathlib import Path

from quorate.deployments import Doors, parse_spec
from quorate.deployments.records.kept_files import KeptFiles
from quorate.deployments.records.registry import Publication, Record


def publication(deadline_s=1.0, classes=("red", "green"), chained=False):
    members = {"a": {"model": "torch.nn:Identity", "inputs": ["x"], "output": "features" if chained else "logits"}}
    if chained:
        members["b"] = {"model": "torch.nn:Identity", "inputs": ["a"]}
    spec = {
        "name": "kept",
        "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "classes": list(classes),
        "members": members,
        "fusion": {"rule": "mean", "deadline_s": deadline_s},
    }
    return Publication(
        parse_spec(spec), Path("/models"), KeptFiles(Path("kept")), {name: f"kept.{name}.12345678" for name in members}
    )


def record(number=1, **changes):
    return Record(number, publication(**changes), Doors(), 8000, 8001, {"10.0.0.1": "kept.@10-0-0-1.12345678"})
