"""Check a spec whole, without starting anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quorate.cluster.arguments.spec import SpecLike, naming_spec_lines, spec_and_folder
from quorate.deployments.display import Displayed, Table
from quorate.deployments.spec.digests import pin
from quorate.deployments.spec.model_files.notes import notes
from quorate.fusion.extras import require


@dataclass(frozen=True, repr=False)
class Validation(Displayed):
    """A spec that is valid, and the revision that its fields and checkpoints give.

    Attributes:
        notes: what models' files cost without need.
    """

    name: str
    revision: str
    members: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return asdict(self)

    def tables(self) -> Sequence[Table]:
        line = f"{self.name} is valid: {len(self.members)} members, revision {self.revision}"
        return [Table(lines=[line, *self.notes])]


@naming_spec_lines
def validate(spec: SpecLike, *, folder: str | Path | None = None) -> Validation:
    """Check a spec, the files it names, and that its fusion can be built.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds.
        folder: what its relative paths start from; that of the file, or the current one, when None.

    Raises:
        SpecError: the first mistake, with its field and its fix.
    """
    found, place = spec_and_folder(spec, folder)
    found = pin(found, place)
    if any(fusion.options or fusion.state for fusion in found.all_fusions.values()):
        require("serve", "checking a fusion's options or state")
        from quorate.deployments.engine.revision import build_revision

        build_revision(found, place)
    return Validation(found.name, found.revision, tuple(found.members), notes(found, place))
