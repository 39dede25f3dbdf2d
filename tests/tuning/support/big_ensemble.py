"""An ensemble that answers by the number of a row, over as many rows as a test wants."""

import numpy as np

from quorate.deployments import parse_spec
from quorate.tuning import Labelled


def big_ensemble(folder, members, rows, classes):
    """Members that look their answer up by the row's number."""
    (folder / "my_factory_d.py").write_text(
        "import numpy as np\n"
        "def make(member, classes):\n"
        "    def model(number):\n"
        "        seeds = number[:, 0].astype(np.int64)\n"
        "        logits = np.cos((seeds[:, None] + 1) * (np.arange(classes) + 7 * member + 1) % 9973)\n"
        "        logits[np.arange(len(seeds)), seeds % classes] += member + np.sin(seeds * (member + 1))\n"
        "        return logits.astype(np.float32)\n"
        "    return model\n"
    )
    member = {"model": "my_factory_d:make", "inputs": ["number"], "max_batch_size": 4096}
    spec = parse_spec(
        {
            "name": "big",
            "inputs": {"number": {"datatype": "FP32", "shape": [1]}},
            "classes": [str(c) for c in range(classes)],
            "members": {f"m{i}": {**member, "config": {"member": i, "classes": classes}} for i in range(members)},
            "fusion": {"rule": "mean"},
        }
    )
    numbers = np.arange(rows, dtype=np.float32)[:, None]
    assert spec.classes is not None
    return spec, Labelled({"number": numbers}, np.arange(rows) % classes, spec.classes)
