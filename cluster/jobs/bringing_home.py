"""The operator's end of a run's way home: fetched, verified, and put where runs are."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quorate.cluster.jobs.api import JobsApi
from quorate.deployments.errors import ClusterError


def taken_name(job: str) -> str:
    """What is put once the runs are here."""
    return f"{job}-taken.json"


class Home:
    """Where runs come to.

    Args:
        runs: a folder of them.
        taken_up: the one run's that went to the job and comes back; None for new ones.
        say: told what is waited for.
        say_last: told where the rest of a run is that was cut off.
        settle: called with the folder of each run that has come.
    """

    def __init__(
        self, runs: Path, taken_up: Path | None, say: Callable[[str], None], say_last: Callable[[str], None],
        settle: Callable[[Path], None] = lambda run: None,
    ):  # fmt: skip
        self._runs, self._taken_up, self._say, self._say_last = runs, taken_up, say, say_last
        self._settle = settle
        # What the job calls each, and where it is here.
        self.places: dict[str, Path] = {}

    def take(self, api: JobsApi, about: Mapping[str, Any]) -> None:
        """Fetch what a job says that it has.

        Raises:
            ClusterError: it is not what was sent, or cannot be written here.
        """
        try:
            self._runs.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".from-job-", dir=self._runs) as place:
                self._fetch(api, about, Path(place, "runs.zip"))
                with zipfile.ZipFile(Path(place, "runs.zip")) as archive:
                    archive.extractall(Path(place, "runs"))
                for name in about["names"]:
                    self._put(Path(place, "runs", name), f"{about['place']}/{name}")
                    self._settle(self.places[f"{about['place']}/{name}"])
        except OSError as error:
            raise ClusterError(
                f"the run cannot be written to {self._runs} ({error}); make room and try again"
            ) from None
        api.put_package(taken_name(about["job"]), b"{}")
        if not about["whole"]:
            self._say_last(f"--resume takes up what there is: {', '.join(map(str, self.places.values()))}")

    def _fetch(self, api: JobsApi, about: Mapping[str, Any], target: Path) -> None:
        received, got = hashlib.sha256(), 0
        with target.open("wb") as file:
            for piece in api.read_file(about["node_id"], about["file"]):
                received.update(piece)
                got += file.write(piece)
                self._say(f"bringing the run: {got / 1e6:,.0f} of {about['size_bytes'] / 1e6:,.0f} MB")
        if f"sha256:{received.hexdigest()}" != about["digest"]:
            found = f"{got} bytes of {about['size_bytes']}"
            raise ClusterError(f"what came of the run is not what was sent ({found}); run it again")

    def _put(self, found: Path, there: str) -> None:
        if self._taken_up is not None:
            shutil.rmtree(self._taken_up, ignore_errors=True)
            self.places[there] = found.rename(self._taken_up)
            return
        names = itertools.chain([found.name], (f"{found.name}-{number}" for number in itertools.count(2)))
        free = next(self._runs / name for name in names if not (self._runs / name).exists())
        self.places[there] = found.rename(free)
