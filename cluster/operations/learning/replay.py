"""Recorded answers computed again, or what another fusion would have answered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quorate.cluster.arguments.spec import SpecLike, naming_spec_lines, spec_and_folder
from quorate.fusion.extras import require

if TYPE_CHECKING:
    from quorate.tuning.evaluation.replay import Replay


@naming_spec_lines
def replay(
    record: str | Path, spec: SpecLike | None = None, *, folder: str | Path | None = None, online: bool = False,
    drift: bool = False,
) -> Replay:  # fmt: skip
    """Fuse recorded rows again from what members gave then, and judge them where there are labels.

    Args:
        record: folder or URI of a record, as the spec's ``record.folder`` names it.
        spec: whose fusion is to answer; each answer's own revision when None, and answers are the same to the bit.
        folder: what the spec's paths start from (its file's).
        online: say too what weights would have answered that are learned from the labels, each row by those that were
            known then, with their regret, and when they would have gone live. They begin with the spec's weights, or
            those of the first revision.
        drift: say too which alarms of drift there would have been.

    Raises:
        RequestError: there is no record, or the fusion reads what it does not hold.
        SpecError: the spec cannot be read, or its fusion not built.
    """
    require("tune", "replay")
    from quorate.deployments.learning.reading import open_record
    from quorate.tuning.evaluation.replay import replay as fuse_again

    if spec is None:
        return fuse_again(open_record(record), online=online, drift=drift)
    return fuse_again(open_record(record), *spec_and_folder(spec, folder), online=online, drift=drift)
