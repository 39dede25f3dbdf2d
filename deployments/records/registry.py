"""The registry: what is true of each ensemble, as numbered records that are written once.

A record holds the live publication, the doors and where they stand. A change makes the next record; of two that start
from the same one only the first is written, so that no change is lost and none is based on what is no longer true.
Fusion replicas look at the number alone until it grows. Of tokens only digests are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import TypeAdapter, ValidationError

from quorate.deployments.errors import ConflictError, RecordVersionError, SpecError, UnavailableError
from quorate.deployments.records.kept_files import KeptFiles
from quorate.deployments.records.measurements import Measurements
from quorate.deployments.security.doors import WILDCARDS, Doors
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.telemetry.settings import Telemetry

if TYPE_CHECKING:
    from quorate.deployments.transport.keys import ClusterKeys

KEPT = 10
# Of what a record means. Fields that an older version may do without need no new number; with one that it may not, a
# record says the least number that its reader must know.
FORMAT, LEAST_FORMAT = 1, 1
_VERSION = version("quorate")  # of the code that runs, whatever is installed since
_DOORS = TypeAdapter(Doors)
# Behind the ensemble's name in that of an application that Serve does not know: fusion replicas run it themselves.
INSIDE = "="
# And in that of the one that learns.
LEARNING = "~online"


class Store(Protocol):
    """Where the registry keeps its bytes; ``ray_private.ClusterStore`` on a cluster.

    Every method raises UnavailableError where the store does not answer. ``put`` without ``overwrite`` says whether the
    value is what is kept: a value that two may put, and only one may have put, needs something of its own in it.
    """

    def get(self, key: str) -> bytes: ...

    def put(self, key: str, value: bytes, overwrite: bool = True) -> bool: ...

    def delete(self, key: str) -> None: ...

    def keys(self, prefix: str) -> list[str]: ...


@dataclass(frozen=True)
class Publication:
    """A published spec.

    Attributes:
        folder: what its relative paths started from on the machine that it was deployed from.
        files: all that it needs of there.
        apps: the application of each member; those of one application share a process.
        measured: by what members were placed, where the spec leaves that open.
        own: of a shadow, the members that run for it alone, and ``share`` of the requests that they are asked for.
    """

    spec: EnsembleSpec
    folder: Path
    files: KeptFiles
    apps: Mapping[str, str]
    measured: Measurements = field(default_factory=Measurements)
    own: tuple[str, ...] = ()
    share: float = 0.0

    @property
    def members_by_app(self) -> dict[str, tuple[str, ...]]:
        """The members of each application, in the order of their names."""
        found: dict[str, list[str]] = {}
        for name, app in self.apps.items():
            found.setdefault(app, []).append(name)
        return {app: tuple(sorted(names)) for app, names in found.items()}

    @property
    def serve_apps(self) -> set[str]:
        """The applications that are no part of fusion replicas: of members, and of what learns."""
        learning = {learning_app(self.spec.name)} if self.spec.online.mode != "off" else set()
        return {app for app in self.apps.values() if not is_inside(app)} | learning

    @property
    def own_apps(self) -> dict[str, str]:
        """Of a shadow, the application of each member that runs for it alone."""
        return {name: self.apps[name] for name in self.own}

    def to_json(self) -> dict[str, Any]:
        """In JSON's types."""
        files = self.files.to_json()
        data = {"spec": _plain(self.spec), "folder": str(self.folder), "files": files, "apps": dict(self.apps)}
        data |= {"measured": self.measured.to_json()} if self.measured.hop_s else {}
        return data | ({"own": list(self.own), "share": self.share} if self.own else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Publication:
        """What ``to_json`` gave."""
        spec = EnsembleSpec.model_validate(data["spec"])
        measured = Measurements.from_json(data["measured"]) if "measured" in data else Measurements()
        files, own = KeptFiles.from_json(data["files"]), tuple(data.get("own", ()))
        return cls(spec, Path(data["folder"]), files, data["apps"], measured, own, data.get("share", 0.0))


@dataclass(frozen=True)
class Record:
    """All that is true of an ensemble that is deployed.

    Attributes:
        number: grows with each change.
        live: what answers.
        doors: whom they admit, and on which address of each node.
        http_port: the same on every node, likewise ``grpc_port``.
        door_apps: the application of the doors on each node, by the node's address.
        earlier: what was live before, oldest first.
        shadows: what is computed beside what is live, on the same members and those that it has of its own.
    """

    number: int
    live: Publication
    doors: Doors
    http_port: int
    grpc_port: int
    door_apps: Mapping[str, str]
    earlier: tuple[Publication, ...] = field(default=())
    shadows: tuple[Publication, ...] = field(default=())

    @property
    def publications(self) -> tuple[Publication, ...]:
        """All that it names: their files are kept."""
        return (self.live, *self.earlier, *self.shadows)

    @property
    def apps(self) -> set[str]:
        """Every application of Serve that it needs."""
        return self.member_apps | {*self.door_apps.values()}

    @property
    def member_apps(self) -> set[str]:
        """Those that run members, for what is live or for shadows."""
        return self.live.serve_apps.union(*(one.own_apps.values() for one in self.shadows))

    @property
    def door_hosts(self) -> tuple[str, ...]:
        """What the doors are reached by: each node's address, or the only one that they bind."""
        return tuple(self.door_apps) if self.doors.host in WILDCARDS else (self.doors.host,)

    def following(self, publication: Publication, dropping: str = "") -> Record:
        """The record after this one, with another publication live; the others stay within reach of a rollback.

        One that was a shadow is none any more.

        Args:
            dropping: a revision to leave out of what is kept.
        """
        gone = (publication.spec.revision, dropping)
        kept = [old for old in (*self.earlier, self.live) if old.spec.revision not in gone]
        shadows = tuple(one for one in self.shadows if one.spec.revision != publication.spec.revision)
        return replace(
            self, number=self.number + 1, live=publication, earlier=tuple(kept[-(KEPT - 1) :]), shadows=shadows
        )

    def shadowed_by(self, shadows: Iterable[Publication]) -> Record:
        """The record after this one, with other shadows."""
        return replace(self, number=self.number + 1, shadows=tuple(shadows))

    def to_json(self) -> bytes:
        """For the store."""
        shadows = {"shadows": [one.to_json() for one in self.shadows]} if self.shadows else {}
        return json.dumps(
            {
                "format": FORMAT,
                "least_format": LEAST_FORMAT,
                "quorate": _VERSION,
                "number": self.number,
                "live": self.live.to_json(),
                "doors": _DOORS.dump_python(self.doors, mode="json"),
                "http_port": self.http_port,
                "grpc_port": self.grpc_port,
                "door_apps": dict(self.door_apps),
                "earlier": [old.to_json() for old in self.earlier],
                **shadows,
            }
        ).encode()

    @classmethod
    def from_json(cls, stored: bytes) -> Record:
        """What ``to_json`` gave, of this version or of another.

        Raises:
            RecordVersionError: a later version wrote what this one does not know.
        """
        data = json.loads(stored)
        writer, own = data.get("quorate", ""), _VERSION
        if data.get("least_format", 1) > FORMAT:
            raise RecordVersionError(writer, own, f"it is in format {data['format']}, and this one knows {FORMAT}")
        try:
            return cls._of(data)
        except (ValidationError, SpecError, LookupError, TypeError) as error:
            if writer == own:
                raise
            raise RecordVersionError(writer or "an older version", own, " ".join(str(error).split())) from None

    @classmethod
    def _of(cls, data: Mapping[str, Any]) -> Record:
        return cls(
            data["number"],
            Publication.from_json(data["live"]),
            _DOORS.validate_python(data["doors"]),
            data["http_port"],
            data["grpc_port"],
            data["door_apps"],
            tuple(Publication.from_json(old) for old in data["earlier"]),
            tuple(Publication.from_json(one) for one in data.get("shadows", ())),
        )


def is_inside(app: str) -> bool:
    """Whether fusion replicas run the members of the application of this name themselves."""
    return app.partition(".")[2].startswith(INSIDE)


def learning_app(ensemble: str) -> str:
    """The name of the application that learns weights from labels: one, whatever number of doors there are."""
    return f"{ensemble}.{LEARNING}.{hashlib.sha256(ensemble.encode()).hexdigest()[:8]}"


def _plain(spec: EnsembleSpec) -> dict[str, Any]:
    """In JSON's types, without what has its default: an older version may not know the field."""
    short = spec.model_dump(mode="json", exclude_defaults=True)
    return short if EnsembleSpec.model_validate(short) == spec else spec.model_dump(mode="json")


# Stands in a record's place when the ensemble is taken down: numbers go on growing.
_DOWN = b"null"


class Registry:
    """Reads and writes one store."""

    def __init__(self, store: Store):
        self._store = store

    def records(self) -> dict[str, Record]:
        """The newest record of each ensemble that is deployed, by name."""
        names = sorted({key.split("/")[1] for key in self._store.keys("record/")})
        return {name: record for name in names if (record := self.latest(name)) is not None}

    def number(self, ensemble: str) -> int:
        """Of the newest record; 0 where there never was one. While it stays the same, so does all else."""
        return self._newest(ensemble)[0]

    def follows(self, ensemble: str, number: int) -> bool:
        """Whether there is a newer record than this one: two reads of a few bytes, however long records are.

        Every fusion replica asks every two seconds.
        """
        noted = int(self._store.get(_number_key(ensemble)) or b"0")
        return noted > number or bool(self._store.get(_record_key(ensemble, number + 1)))

    def latest(self, ensemble: str) -> Record | None:
        """The newest record; None for an ensemble that is not deployed."""
        stored = self._newest(ensemble)[1]
        return None if stored in (b"", _DOWN) else Record.from_json(stored)

    def write(self, record: Record) -> None:
        """Make a record the newest.

        Raises:
            ConflictError: another has been written since the one that this one follows.
        """
        self._write(record.live.spec.name, record.number, record.to_json())

    def write_down(self, ensemble: str, number: int) -> None:
        """Record that an ensemble is deployed no more.

        Raises:
            ConflictError: as of ``write``.
        """
        self._write(ensemble, number, _DOWN)

    def telemetry(self, ensemble: str) -> Telemetry:
        """What of an ensemble is traced and how its logs are written; no part of what it is, so no record has it."""
        stored = self._store.get(_telemetry_key(ensemble))
        return Telemetry.from_json(stored) if stored else Telemetry()

    def change_telemetry(self, ensemble: str, change: Callable[[Telemetry], Telemetry]) -> Telemetry:
        """Keep what a function makes of it; of two at the same time the later one counts."""
        changed = change(self.telemetry(ensemble))
        self._store.put(_telemetry_key(ensemble), changed.to_json())
        return changed

    def forget_telemetry(self, ensemble: str) -> None:
        """An ensemble is no more."""
        self._store.delete(_telemetry_key(ensemble))

    def online(self, ensemble: str) -> bytes:
        """What weights that learn have come to, as who learns them has written it last; empty for nothing."""
        return self._store.get(_online_key(ensemble))

    def note_online(self, ensemble: str, stored: bytes) -> None:
        """Keep that."""
        self._store.put(_online_key(ensemble), stored)

    def forget_online(self, ensemble: str) -> None:
        """An ensemble is no more."""
        self._store.delete(_online_key(ensemble))

    def cluster_keys(self) -> ClusterKeys:
        """What replicas on different nodes prove to each other that they have; made by whoever asks first."""
        from quorate.deployments.transport.keys import ClusterKeys

        if not self._store.get("data-plane-keys"):
            self._store.put("data-plane-keys", ClusterKeys.make().to_json(), overwrite=False)
        return ClusterKeys.from_json(self._store.get("data-plane-keys"))

    def _newest(self, ensemble: str) -> tuple[int, bytes]:
        """The newest record and its number: near the number that is noted, which is a hint and may be behind."""
        number = int(self._store.get(_number_key(ensemble)) or b"0")
        while True:
            stored = self._store.get(_record_key(ensemble, number)) if number else b""
            while following := self._store.get(_record_key(ensemble, number + 1)):
                number, stored = number + 1, following
            numbers = [] if stored else self._numbers(ensemble)
            if not numbers:
                return number, stored
            number = numbers[-1]  # the one that was noted has been followed and deleted

    def _write(self, ensemble: str, number: int, stored: bytes) -> None:
        if not self._store.put(_record_key(ensemble, number), stored, overwrite=False):
            raise ConflictError(f"'{ensemble}' has been changed meanwhile; look at quorate status, and try again")
        with suppress(UnavailableError):  # it is true from here on; what follows only makes it quicker to find
            self._store.put(_number_key(ensemble), str(number).encode())
            for old in self._numbers(ensemble):  # the oldest first: those that are left always follow one another
                if old < number:
                    self._store.delete(_record_key(ensemble, old))

    def _numbers(self, ensemble: str) -> list[int]:
        return sorted(int(key.rpartition("/")[2]) for key in self._store.keys(f"record/{ensemble}/"))


def _telemetry_key(ensemble: str) -> str:
    return f"telemetry/{ensemble}"


def _online_key(ensemble: str) -> str:
    return f"online/{ensemble}"


def _number_key(ensemble: str) -> str:
    return f"record-number/{ensemble}"


def _record_key(ensemble: str, number: int) -> str:
    return f"record/{ensemble}/{number}"
