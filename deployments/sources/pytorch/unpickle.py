"""What ``quorate convert`` runs in a process of its own: reads what torch has saved, and writes its tensors.

python -m quorate.deployments.sources.pytorch.unpickle FILE TARGET [--run-its-code]
"""

from __future__ import annotations

import json
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

# What the process says by its exit code; anything else is a crash of what it has read.
DONE, REFUSED, NEEDS_CODE = 0, 10, 11


def main(source: Path, target: Path, run_its_code: bool) -> tuple[int, dict[str, Any]]:
    """Write a file's state as safetensors; returns the exit code, and what is in the state, or the reason."""
    import torch
    from safetensors.torch import save_file

    from quorate.deployments.sources.pytorch.weights import StateError, state_of

    sys.path += [str(source.parent.resolve()), str(Path.cwd())]
    try:
        saved = _read(torch, source, run_its_code)
    except (pickle.UnpicklingError, RuntimeError) as error:
        return (REFUSED, {"error": _line(error)}) if run_its_code else (NEEDS_CODE, {})
    except Exception as error:  # its code may raise anything at all
        return REFUSED, {"error": f"{type(error).__name__}: {_line(error)}"}
    try:
        state = state_of(saved)
    except StateError as error:
        return REFUSED, {"error": str(error)}
    # Parameters may share memory, or be views, which the format has not.
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in state.items()}, target)
    kind = type(saved)
    module = f"{kind.__module__}:{kind.__qualname__}" if isinstance(saved, torch.nn.Module) else None
    tensors = {name: [str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in state.items()}
    return DONE, {"tensors": tensors, "module": module}


def _read(torch: Any, source: Path, run_its_code: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(source, map_location="cpu", weights_only=not run_its_code)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


if __name__ == "__main__":
    code, said = main(Path(sys.argv[1]), Path(sys.argv[2]), "--run-its-code" in sys.argv[3:])
    print(json.dumps(said))
    sys.exit(code)
