"""Ensembles whose members compute next to nothing, over as many rows as a test wants."""

import numpy as np

from quorate.deployments import parse_spec
from quorate.tuning import Labelled

LOOK_UP = """
import numpy as np

def make(member, classes):
    def model(number):
        seeds = number[:, 0].astype(np.int64)
        logits = np.cos((seeds[:, None] + 1) * (np.arange(classes) + 7 * member + 1) % 9973)
        logits[np.arange(len(seeds)), seeds % classes] += member + np.sin(seeds * (member + 1))
        return logits.astype(np.float32)
    return model
"""


def factory_ensemble(path, code, tensor, configs, classes):
    """Members that a factory in ``path`` makes, one for each config, over one input: its name and size."""
    path.write_text(code)
    name, size = tensor
    member = {"model": f"{path.stem}:make", "inputs": [name], "max_batch_size": 4096}
    return parse_spec(
        {
            "name": "big",
            "inputs": {name: {"datatype": "FP32", "shape": [size]}},
            "classes": [str(c) for c in range(classes)],
            "members": {f"m{i}": {**member, "config": config} for i, config in enumerate(configs)},
            "fusion": {"rule": "mean"},
        }
    )


def big_ensemble(folder, members, rows, classes):
    """Members that look their answer up by the row's number."""
    configs = [{"member": i, "classes": classes} for i in range(members)]
    spec = factory_ensemble(folder / "my_factory_d.py", LOOK_UP, ("number", 1), configs, classes)
    numbers = np.arange(rows, dtype=np.float32)[:, None]
    assert spec.classes is not None
    return spec, Labelled({"number": numbers}, np.arange(rows) % classes, spec.classes)
