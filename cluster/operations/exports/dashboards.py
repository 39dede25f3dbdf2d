"""Boards for Grafana and rules for Prometheus, as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorate.cluster.dashboards.cluster_board import CLUSTER
from quorate.cluster.dashboards.ensemble_board import ENSEMBLE
from quorate.cluster.dashboards.grafana_json import grafana_json
from quorate.cluster.dashboards.member_board import MEMBER
from quorate.cluster.dashboards.rules import alerts_yaml, records_yaml
from quorate.deployments.atomic_files import write_whole
from quorate.deployments.display import Displayed, Table
from quorate.deployments.errors import ClusterError

BOARDS = (ENSEMBLE, MEMBER, CLUSTER)


@dataclass(frozen=True, repr=False)
class Dashboards(Displayed):
    """The files that were written, boards first."""

    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return {"files": list(map(str, self.files))}

    def tables(self) -> Sequence[Table]:
        return [Table(lines=[f"wrote {file}" for file in self.files])]


def dashboards(out: str | Path = "dashboards") -> Dashboards:
    """Write three Grafana boards, alerts and recording rules over what every ensemble's doors count.

    Args:
        out: the folder; files of the same names there are replaced.

    Raises:
        ClusterError: they cannot be written there.
    """
    texts = {f"{board.name}.json": json.dumps(grafana_json(board), indent=2) + "\n" for board in BOARDS}
    texts |= {"quorate-records.yaml": records_yaml(), "quorate-alerts.yaml": alerts_yaml()}
    try:
        for name, text in texts.items():
            write_whole(Path(out) / name, text.encode())
    except OSError as error:
        raise ClusterError(f"--out {out} cannot be written to ({error.strerror}); give another folder") from None
    return Dashboards(tuple(Path(out) / name for name in texts))
