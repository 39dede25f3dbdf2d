"""Write a first spec for the models of a folder: what they read and give is seen as they are tried."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from quorate.deployments.display import Displayed, Table
from quorate.deployments.errors import SpecError
from quorate.deployments.spec.fields.types import NAME_PATTERN
from quorate.fusion.extras import require

if TYPE_CHECKING:
    from quorate.deployments.rows.opening import RowsLike

SPEC_NAME = "quorate.yaml"
_SHOWN = ("model", "inputs", "output", "classes")


@dataclass(frozen=True, repr=False)
class FirstSpec(Displayed):
    """A spec that was written, and is valid.

    Attributes:
        inputs: datatype and shape by name.
        members: model, inputs and output by name, and classes where labels show another order of them.
        columns: of inputs that the data calls otherwise, for ``--column``.
        data: the file that was read; empty for none.
        left_out: files that may hold models and are not read, each with what to do.
    """

    path: str
    name: str
    inputs: Mapping[str, str]
    members: Mapping[str, Mapping[str, Any]]
    classes: tuple[str, ...]
    columns: Mapping[str, str]
    data: str = ""
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return asdict(self)

    def tables(self) -> Sequence[Table]:
        rows = [
            (name, member["model"], ", ".join(member["inputs"]), member["output"])
            for name, member in self.members.items()
        ]
        inputs = ", ".join(f"{name} {kind}" for name, kind in self.inputs.items())
        classes = f"classes {', '.join(self.classes[:10])}{' ...' if len(self.classes) > 10 else ''}"
        columns = "".join(f" --column {quote(f'{name}={found}')}" for name, found in self.columns.items())
        seen = {name: member["classes"] for name, member in self.members.items() if "classes" in member}
        lines = [
            f"reads {inputs}; {classes if self.classes else 'gives values'}",
            *(f"columns of {name} are {', '.join(order)}, as the labels show" for name, order in seen.items()),
            *(f"left out: {file}" for file in self.left_out),
            f"wrote {self.path}; next: quorate try {self.path} --input {self.data or 'ROWS'}{columns}",
        ]
        return [Table(("member", "model", "reads", "gives"), rows, self.name, lines)]


def init(
    models: str | Path,
    data: RowsLike | None = None,
    *,
    label: str = "label",
    name: str | None = None,
    inputs: Sequence[str] = (),
    classes: Sequence[str] | None = None,
    factories: Mapping[str, str] | None = None,
    configs: Mapping[str, Mapping[str, Any]] | None = None,
    replace: bool = False,
) -> FirstSpec:
    """Write FOLDER/quorate.yaml for all models that lie in a folder, fused by their mean.

    Args:
        models: the folder that they lie in.
        data: a labelled table: its columns are what models read, its labels the classes.
        label: the column of the labels.
        name: of the ensemble; that of the folder when None.
        inputs: what models read, where the data does not say it or has more columns: NAME, NAME:DATATYPE or
            NAME:DATATYPE[SHAPE].
        classes: in the order of the models' output columns, where neither data nor models say them.
        factories: by member, what builds the network of a weights file, module:factory.
        configs: by member, what the factory is called with.
        replace: a spec that is there already.

    Raises:
        SpecError: there is no model, or what nobody says has to be said; the text names the option.
        MemberLoadError: a model runs on none of the rows.
        RowsError: the data cannot be read.
    """
    require("serve", "running models")
    from quorate.cluster.init.first_spec import write_first_spec
    from quorate.cluster.init.found_models import pickles

    place = Path(models)
    if not place.is_dir():
        raise SpecError(str(models), "is no folder", "give the folder that the models lie in")
    path = place / SPEC_NAME
    if path.exists() and not replace:
        raise SpecError(str(path), "is there already", "say --replace to write it anew")
    called = name or re.sub(r"[^A-Za-z0-9_-]+", "-", place.resolve().name).strip("-")[:63] or "ensemble"
    if not re.match(NAME_PATTERN, called):
        raise SpecError("name", f"'{called}' is no name", "say --name with letters, digits, _ and -")
    spec, columns = write_first_spec(
        path, called, data, label, inputs, classes, dict(factories or {}), dict(configs or {})
    )
    return FirstSpec(
        str(path), spec.name,
        {given: f"{tensor.datatype}{list(tensor.shape)}" for given, tensor in spec.inputs.items()},
        {given: member.model_dump(include=set(_SHOWN), exclude_none=True) for given, member in spec.members.items()},
        spec.classes or (), {given: ",".join(found) for given, found in columns.items()},
        str(data) if isinstance(data, str | Path) else "", tuple(pickles(place)),
    )  # fmt: skip
