"""Turn a file that only a pickle's code can read into one that names all that it holds: tensors, or known types."""

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
from quorate.deployments.sources.pytorch.unpickle import DONE, NEEDS_CODE
from quorate.deployments.spec.model_formats import CHECKPOINTS, SKOPS, WEIGHTS_SUFFIX
from quorate.fusion.extras import require

_ESTIMATORS = (".joblib", ".pkl", ".pickle")


@dataclass(frozen=True, repr=False)
class Converted(Displayed):
    """A file that was written.

    Attributes:
        tensors: type and shape of each, by its key.
        module: ``package.module:Class`` of a whole module that was in the file; None where it held a state.
        ran_code: whether the file was a pickle of more than tensors.
        untrusted: types of an estimator that skops does not trust by itself, and a member's config has to list.
    """

    path: Path
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    module: str | None
    ran_code: bool
    untrusted: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return {**asdict(self), "path": str(self.path)}

    def tables(self) -> Sequence[Table]:
        if self.path.suffix in SKOPS.suffixes:
            lines = [f"wrote {self.path}: an estimator of {self.module}"]
            if self.untrusted:
                lines.append(f"a member with it needs config: {{trusted: [{', '.join(self.untrusted)}]}}")
            return [Table(lines=lines)]
        rows = [[name, dtype, str(list(shape))] for name, (dtype, shape) in self.tensors.items()]
        lines = [f"wrote {self.path}: {len(rows)} tensors"]
        if self.module:
            lines.append(f"it was a module of {self.module}: a member's model, with this file as its weights")
        return [Table(["key", "type", "shape"], rows, lines=lines)]


def convert(
    file: str | Path,
    *,
    to: str | None = None,
    output: str | Path | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Converted:
    """Write the tensors of a file of ``torch.save`` as safetensors, or a pickled scikit-learn estimator by skops.

    A checkpoint of plain tensors is read without running anything. A pickle of anything else, such as of a whole
    module, **runs code that is in the file**: it is read in a process of its own, and should be only where its origin
    is trusted. So does a pickle of an estimator, always.

    Args:
        file: a state dict, a checkpoint with one in it, or a whole module; ``.pt``, ``.pth``, ``.ckpt`` or ``.bin``. Or
            an estimator; ``.joblib``, ``.pkl`` or ``.pickle``.
        to: the format, safetensors or skops; that which the file can be when None.
        output: the file to write; the same name with the format's suffix when None.
        on_step: told what happens next, and warned before code of the file is run.

    Raises:
        RequestError: the file cannot be read, or holds no tensors.
    """
    source, tell = Path(file), on_step or (lambda step: None)
    estimator = source.suffix in _ESTIMATORS
    suffix = SKOPS.suffixes[0] if estimator else WEIGHTS_SUFFIX
    if to not in (None, suffix.removeprefix(".")):
        raise RequestError(f"there is no way to convert {source.name} to '{to}'; write --to {suffix.removeprefix('.')}")
    if not source.is_file():
        raise RequestError(f"there is no file {source}; give a file of torch.save, or a pickled estimator")
    if not estimator and source.suffix not in CHECKPOINTS:
        fix = f"give one that ends in {', '.join((*CHECKPOINTS, *_ESTIMATORS))}"
        raise RequestError(f"{source} is no file of torch.save, and no pickled estimator; {fix}")
    target = Path(output) if output is not None else source.with_suffix(suffix)
    tell(f"reading {source.name}")
    return (_convert_estimator if estimator else _convert_tensors)(source, target, tell)


def _convert_tensors(source: Path, target: Path, tell: Callable[[str], None]) -> Converted:
    require("serve", "reading a checkpoint")
    code, said = _run("pytorch.unpickle", source, target)
    if ran_code := code == NEEDS_CODE:
        tell(_warning(source))
        code, said = _run("pytorch.unpickle", source, target, "--run-its-code")
    if code != DONE:
        raise RequestError(f"{source} cannot be converted: {said['error']}; {_FIX}")
    tensors = {name: (dtype, tuple(shape)) for name, (dtype, shape) in said["tensors"].items()}
    return Converted(target, tensors, said["module"], ran_code)


def _convert_estimator(source: Path, target: Path, tell: Callable[[str], None]) -> Converted:
    require("sklearn", "reading an estimator")
    tell(_warning(source))
    code, said = _run("tables.unpickle", source, target)
    if code != DONE:
        raise RequestError(f"{source} cannot be converted: {said['error']}; {_FIX_ESTIMATOR}")
    return Converted(target, {}, said["module"], True, tuple(said["untrusted"]))


def _warning(source: Path) -> str:
    return (
        f"warning: {source.name} is a pickle, whose code runs now, in a process of its own: stop it unless you trust "
        "where the file is from"
    )


_FIX_ESTIMATOR = "run this where what it was saved with is installed, in the versions of then"
_FIX = "run this where the code that it was saved with can be imported, or save its state_dict again"


def _run(reader: str, source: Path, target: Path, *words: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", f"quorate.deployments.sources.{reader}", str(source), str(target), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"])[-1]
        return 1, {"error": last}
    return done.returncode, said
