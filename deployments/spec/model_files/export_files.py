"""What a program of torch.export says of its inputs, read without PyTorch."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

from quorate.deployments.spec.model_files.file_input import FileInput

# The protocol's names of torch._export.serde.schema.ScalarType.
_DATATYPES = {
    1: "UINT8", 2: "INT8", 3: "INT16", 4: "INT32", 5: "INT64", 6: "FP16", 7: "FP32", 8: "FP64", 12: "BOOL", 13: "BF16",
    28: "UINT16",
}  # fmt: skip

# What readers of archives raise for what is none, and a look into JSON that is not as expected.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, LookupError, TypeError, AttributeError, ValueError,
)  # fmt: skip


def read_export(path: Path) -> dict[str, FileInput] | None:
    """The program's own inputs in their order, by the names of its parameters.

    None where they cannot be read here: an archive of another version, or none, which torch will say.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("models/model.json"))
            graph: dict[str, Any] = json.loads(archive.read(name))["graph_module"]
        specs = [one["user_input"]["arg"] for one in graph["signature"]["input_specs"] if "user_input" in one]
        names = [arg["as_tensor"]["name"] for arg in specs if "as_tensor" in arg]
        return {name: _input(graph["graph"]["tensor_values"][name]) for name in names}
    except _DAMAGE:
        return None


def _input(tensor: dict[str, Any]) -> FileInput:
    sizes = tuple(size.get("as_int") for size in tensor["sizes"])  # others are symbols
    return FileInput(_DATATYPES.get(tensor["dtype"], ""), sizes)
