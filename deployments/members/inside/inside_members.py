"""Members that a fusion replica runs itself: loaded there, run by one thread beside its event loop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quorate.deployments.logs.files import LogFile
from quorate.deployments.members.inside.deaths import DEATHS_TO_KEEP_OUT, InsideDeaths
from quorate.deployments.members.inside.inside_thread import InsideThread
from quorate.deployments.members.loaded_member import LoadedMember, load_all
from quorate.deployments.members.member_group import MemberGroup
from quorate.deployments.members.replica import check_device, check_progress
from quorate.deployments.spec.schema import MemberJob

KEPT_OUT = f"not run: the fusion replica ended {DEATHS_TO_KEEP_OUT} times while it computed"
_INSTEAD = "list it under apart in the spec, and deploy again"
# A pass that is under way may take so long yet.
STOP_S = 5.0


class InsideMembers:
    """The members of one application, loaded and warm.

    Attributes:
        members: that it runs.
        kept_out: names of those that it does not run, because processes ended while they computed.
        thread: what runs them.
        address: what the routing needs to know; see ``routing.replica.Address``.

    Raises:
        SpecError: files or code are not those that were deployed.
        MemberLoadError: a model cannot be loaded, or fails on an example.
    """

    def __init__(
        self,
        jobs: Sequence[tuple[MemberJob, LogFile]],
        folder: Path,
        replica_id: str,
        node_id: str,
        root: Path | None = None,
    ):
        """Args:
        jobs: of each member what it is, and where it writes.
        root: where it is kept who computes; see ``InsideDeaths``.
        """
        started = time.monotonic()
        self._deaths = InsideDeaths(replica_id, len(jobs), root)
        self.kept_out = tuple(jobs[place][0].name for place in sorted(self._deaths.kept_out))
        for place in self._deaths.kept_out:
            jobs[place][1].write(f"{KEPT_OUT} on this node; {_INSTEAD}", "error")
        kept = [place for place in range(len(jobs)) if place not in self._deaths.kept_out]
        self.members: tuple[LoadedMember, ...] = load_all([jobs[place] for place in kept], folder, replica_id)
        group = MemberGroup([one.predictor for one in self.members], [one.telemetry for one in self.members])
        group.on_running = lambda place: self._deaths.run(-1 if place < 0 else kept[place])
        self.thread = InsideThread(group)
        self.address: dict[str, Any] = {
            "replica_id": replica_id,
            "node_id": node_id,
            "members": group.names,
            "outputs": tuple(one.output for one in self.members),
        }
        self.thread.start()
        for member in self.members:
            member.log.write(f"runs inside the fusion replica, after {time.monotonic() - started:.1f} s")

    def check_health(self) -> None:
        """Raise RuntimeError when the process had better be replaced."""
        for member in self.members:
            member.log.touch()
            check_device(member)
        if not self.members:
            return
        check_progress(self.members[self.thread.group.running], self.thread.stalled_s())
        if self.thread.ended:
            raise RuntimeError(f"the thread of members {', '.join(self.thread.group.names)} has ended")

    def stop(self) -> None:
        """Run no more; what is under way ends by itself."""
        self.thread.stop()
        self.thread.join(STOP_S)
        self._deaths.close()
        for member in self.members:
            member.telemetry.close()
