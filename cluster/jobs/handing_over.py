"""The job's end of a run's way home: its folder as one file beside Ray's logs, until the operator's machine has it."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from quorate.cluster.jobs.bringing_home import taken_name
from quorate.cluster.jobs.receiving import take
from quorate.deployments.control.ray_private import kept_root, session_folder
from quorate.deployments.spec.digests import file_digest
from quorate.deployments.spec.named_files import files_in

# Slower than this is no link to wait for.
_SLOWEST_BYTES_S = 100_000


@contextmanager
def runs_folder(job: str) -> Iterator[Path]:
    """Where a job makes its runs: beside what is kept on the node, so that nodes that share the one share the other."""
    place = kept_root().parent / "runs"
    place.mkdir(parents=True, exist_ok=True)
    runs = Path(tempfile.mkdtemp(prefix=f"{job}-", dir=place))
    try:
        yield runs
    finally:
        shutil.rmtree(runs, ignore_errors=True)


def hand_over(job: str, runs: Path, say: Callable[..., None], whole: bool) -> None:
    """Tell the operator's machine where all runs are, and wait until it has them.

    Args:
        whole: they have come to their end.

    Raises:
        ClusterError: nobody takes them.
    """
    names = sorted(path.name for path in runs.iterdir())
    archive = session_folder() / "logs" / f"{job}-runs.zip"
    try:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as written:
            for path in files_in(runs):
                written.write(path, path.relative_to(runs).as_posix())
        archive.chmod(0o600)
        node: Any = ray.get_runtime_context().get_node_id()
        size_bytes = archive.stat().st_size
        about = {"file": archive.name, "node_id": node, "size_bytes": size_bytes, "digest": file_digest(archive)}
        say(runs={**about, "job": job, "names": names, "place": str(runs), "whole": whole})
        take(taken_name(job), more_s=size_bytes / _SLOWEST_BYTES_S)
    finally:
        archive.unlink(missing_ok=True)
