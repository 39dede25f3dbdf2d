"""Turn a file that only a pickle's code can read into one that is nothing but tensors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quorate.deployments.display import Displayed, Table
from quorate.deployments.errors import RequestError
from quorate.deployments.spec.model_formats import CHECKPOINTS, WEIGHTS_SUFFIX
from quorate.fusion.extras import require

_DONE, _NEEDS_CODE = 0, 11  # as unpickle.py has them; importing it is importing torch


@dataclass(frozen=True, repr=False)
class Converted(Displayed):
    """A file that was written.

    Attributes:
        tensors: type and shape of each, by its key.
        module: ``package.module:Class`` of a whole module that was in the file; None where it held a state.
        ran_code: whether the file was a pickle of more than tensors.
    """

    path: Path
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    module: str | None
    ran_code: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return {**asdict(self), "path": str(self.path)}

    def tables(self) -> Sequence[Table]:
        rows = [[name, dtype, str(list(shape))] for name, (dtype, shape) in self.tensors.items()]
        lines = [f"wrote {self.path}: {len(rows)} tensors"]
        if self.module:
            lines.append(f"it was a module of {self.module}: a member's model, with this file as its weights")
        return [Table(["key", "type", "shape"], rows, lines=lines)]


def convert(
    file: str | Path,
    *,
    to: str = "safetensors",
    output: str | Path | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Converted:
    """Write the tensors of a file of ``torch.save`` as safetensors.

    A checkpoint of plain tensors is read without running anything. A pickle of anything else, such as of a whole
    module, **runs code that is in the file**: it is read in a process of its own, and should be only where its origin
    is trusted.

    Args:
        file: a state dict, a checkpoint with one in it, or a whole module; ``.pt``, ``.pth``, ``.ckpt`` or ``.bin``.
        to: the format; there is one.
        output: the file to write; the same name with the format's suffix when None.
        on_step: told what happens next, and warned before code of the file is run.

    Raises:
        RequestError: the file cannot be read, or holds no tensors.
    """
    source, tell = Path(file), on_step or (lambda step: None)
    if to != WEIGHTS_SUFFIX.removeprefix("."):
        raise RequestError(f"there is no way to convert to '{to}'; write --to safetensors")
    if not source.is_file():
        raise RequestError(f"there is no file {source}; give a file of torch.save")
    if source.suffix not in CHECKPOINTS:
        raise RequestError(f"{source} is no file of torch.save; give one that ends in {', '.join(CHECKPOINTS)}")
    require("serve", "reading a checkpoint")
    target = Path(output) if output is not None else source.with_suffix(WEIGHTS_SUFFIX)
    tell(f"reading {source.name}")
    code, said = _run(source, target)
    if ran_code := code == _NEEDS_CODE:
        tell(f"warning: {source.name} is a pickle, whose code runs now, in a process of its own: stop it unless you "
             "trust where the file is from")  # fmt: skip
        code, said = _run(source, target, "--run-its-code")
    if code != _DONE:
        raise RequestError(f"{source} cannot be converted: {said['error']}; {_FIX}")
    tensors = {name: (dtype, tuple(shape)) for name, (dtype, shape) in said["tensors"].items()}
    return Converted(target, tensors, said["module"], ran_code)


_FIX = "run this where the code that it was saved with can be imported, or save its state_dict again"


def _run(source: Path, target: Path, *words: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "quorate.deployments.sources.unpickle", str(source), str(target), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"])[-1]
        return 1, {"error": last}
    return done.returncode, said
