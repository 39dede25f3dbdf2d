"""What learns: it looks what is live and what doors have recorded, and publishes as a person would.

It writes where doors and ``quorate status`` look. It may die at any time: what is live since when, and whose it is,
stands in the registry's store, before anything goes live; all else is learned again from the record.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from quorate.deployments.control.built_revision import built
from quorate.deployments.control.online.labelled_rows import LabelledRowsOfDoors
from quorate.deployments.control.online.policy_publication import policy_publication, policy_spec
from quorate.deployments.control.online.policy_revisions import PolicyRevisions, deployed
from quorate.deployments.control.publish import publish
from quorate.deployments.errors import ConflictError, DeployError
from quorate.deployments.learning.online.bandit.ensemble_bandits import EnsembleBandits
from quorate.deployments.learning.online.ensemble_learner import EnsembleLearner, pinned_weights
from quorate.deployments.learning.online.publishing import Wish
from quorate.deployments.learning.online.relabelling.report import said_of
from quorate.deployments.learning.online.state import OnlineState, fusion_name
from quorate.deployments.records.registry import Publication as Live
from quorate.deployments.records.registry import Record, Registry
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.patch import revise

_log = logging.getLogger(__name__)
# How often it is looked for new labels; in a store that is not a local folder less often.
LOOK_S, STORE_LOOK_S = 1.0, 10.0
# What could not be published is tried again after so long.
PAUSE_S = 30.0


class OnlineLearning:
    """Does as the live spec's ``online`` says."""

    def __init__(self, ensemble: str, registry: Registry):
        self._ensemble, self._registry = ensemble, registry
        self._state = OnlineState.from_json(registry.online(ensemble))
        self._number = -1
        self._record: Record | None = None
        self._learner: EnsembleLearner | None = None
        self._rows: LabelledRowsOfDoors | None = None
        self._made_for: tuple[Any, ...] = ()
        self._trouble, self._not_before, self._looked = "", 0.0, -STORE_LOOK_S
        self._unread = ""
        self._closed, self._noting = False, threading.Lock()
        self._noted, self._reads_from = b"", 0.0
        # Of an earlier process it is not known how long ago that was.
        self._published_at = time.monotonic() if self._state.published else -math.inf

    def turn(self) -> None:
        """Look once what is live and what is new; learn, and publish what is to be live."""
        if self._record is None or self._registry.follows(self._ensemble, self._number):
            self._look()
        if self._learner is None or self._record is None or self._rows is None:
            return
        now = time.monotonic()
        if now >= self._reads_from and (self._rows.local or now - self._looked >= STORE_LOOK_S):
            self._looked = now
            self._read(self._record, self._learner, self._rows)
        if self._record.live.spec.online.mode == "live":
            self._publish(self._record, self._learner)
            self._publish_policy(self._record, self._learner)
        self._note()

    def close(self) -> None:
        """Write nothing more, also in a turn that is under way: the ensemble may be no more."""
        with self._noting:
            self._closed = True

    def _look(self) -> None:
        """Take up what is live; where that fails it is done again."""
        number = self._registry.number(self._ensemble)
        self._record = self._registry.latest(self._ensemble)
        self._follow()
        self._number = number

    def _read(self, record: Record, learner: EnsembleLearner, rows: LabelledRowsOfDoors) -> None:
        """Learn from what is new; where that fails, from all of it again, after a while."""
        try:
            learner.take(rows.new(record.door_apps))
        except Exception as error:
            self._made_for, self._record = (), None
            self._reads_from = time.monotonic() + PAUSE_S
            self._unread = f"labels cannot be read: {error}"
            raise
        self._unread = ""

    def _follow(self) -> None:
        """Take up what is live now: our own, or what somebody has made live, against which all begins anew."""
        if self._record is None or self._record.live.spec.online.mode == "off":
            self._learner, self._made_for = None, ()
            return
        spec, state = self._record.live.spec, self._state
        name = fusion_name(spec)
        revision = built(self._record.live)
        if state.begun is not None and state.begun.fusion == name:
            self._went_live()
        elif state.live != name or (state.own and spec.online.mode != "live"):
            state.reset(spec, pinned_weights(revision), _now_us())
        assert spec.record is not None
        folder = spec.record.folder_of(spec.name)
        made_for = (state.since_us, spec.online.mode, folder, spec.members, revision.asked)
        if made_for != self._made_for:
            at_once = spec.online.mode != "live"
            revisions = PolicyRevisions(lambda: self._record, folder)
            pinned = built(deployed(self._record, state.deployed)) if state.own else revision
            bandits = EnsembleBandits(revision, pinned, state, revisions.writer, at_once=at_once)
            self._learner = EnsembleLearner(revision, state, at_once, bandits)
            if self._rows is not None:
                self._rows.close()
            self._rows, self._looked = LabelledRowsOfDoors(folder), -STORE_LOOK_S
            self._made_for = made_for
        self._note()

    def _went_live(self) -> None:
        done = self._state.went_live(_now_us())
        what = "what somebody deployed is live again" if done.taken_back else "what was learned is live"
        called = "; ".join(filter(None, map(said_of, done.relabel.values())))
        _log.info("%s as revision %s%s", what, done.revision, called and f"; {called}")
        self._trouble = ""
        if not done.taken_back:
            self._published_at = time.monotonic()
        if self._learner is not None:
            self._learner.went_live(done, self._state)
        else:
            self._state.take_over(done)

    def _publish(self, record: Record, learner: EnsembleLearner) -> None:
        wishes = learner.wishes()
        back = any(wish.back for wish in wishes.values())
        now = time.monotonic()
        early = not back and now - self._published_at < record.live.spec.online.publish_every_s
        if not wishes or early or now < self._not_before:
            return
        old = record.live.spec
        new, weights = self._revised(old, wishes, learner)
        self._state.begun = learner.publication(wishes, fusion_name(new), new.revision, weights)
        self._make_live(old, lambda live: new)

    def _publish_policy(self, record: Record, learner: EnsembleLearner) -> None:
        """A bandit: its models are a file of the revision."""
        wished, now = learner.bandits.wish(), time.monotonic()
        every_s = record.live.spec.online.publish_every_s
        if wished is None or now < self._not_before or self._state.begun is not None:
            return
        output, wish = wished
        if not wish.at_once and now - self._published_at < every_s:
            return
        with TemporaryDirectory(prefix="q") as scratch:
            pinned, folder = deployed(record, self._state.deployed), Path(scratch)
            try:
                new = policy_spec(record.live, pinned, output, wish, folder)
            except DeployError as error:  # what somebody deployed is to be had no more
                self._trouble, self._not_before = str(error), now + PAUSE_S
                return
            self._state.begun = learner.bandits.publication(output, wish, fusion_name(new), new.revision)
            self._make_live(record.live.spec, lambda live: policy_publication(live, new, folder))

    def _make_live(self, old: EnsembleSpec, made: Callable[[Live], EnsembleSpec | Live]) -> None:
        """What was begun, in the place of a spec; where somebody else changes the ensemble, not now."""
        self._note()  # before it is done: who comes after this process must know whose it is

        def revised(now: Record) -> EnsembleSpec | Live:
            if now.live.spec.revision != old.revision:
                raise ConflictError(f"'{self._ensemble}' has been changed meanwhile")
            return made(now.live)

        try:
            publish(self._ensemble, revised, wait_s=0, by_itself=True, instead=self._state.own)
        except ConflictError as error:  # an operator is at it: they are not to wait for this
            self._trouble = str(error)
        except DeployError as error:
            self._trouble, self._not_before = str(error), time.monotonic() + PAUSE_S
            _log.warning("learned weights were not published: %s", error)
        else:
            self._went_live()  # also where somebody has published since: that is seen next
        self._look()
        self._state.begun = None  # where it did not go live, whoever makes the same live is somebody else

    def _revised(
        self, spec: EnsembleSpec, wishes: Mapping[str, Wish], learner: EnsembleLearner
    ) -> tuple[EnsembleSpec, Mapping[str, Mapping[str, float]]]:
        """The spec with what is wished for, and its weights by output and member."""
        back = any(wish.back for wish in wishes.values())
        weights = {name: self._state.pinned[name] for name in wishes} if back else learner.weights(wishes)
        relabels = learner.relabels(wishes)
        changed = {}
        for name, known in weights.items():
            others = dict.fromkeys(spec.all_fusions[name].members, 0.0)
            relabel = self._state.relabel.get(name, {}) if back else relabels[name]
            changed[name] = {
                "weights": self._state.written[name] if back else others | dict(known), "relabel": relabel or None
            }  # fmt: skip
        config = {"fusion": changed["fused"]} if spec.fusion else {"fusions": changed}
        return revise(spec, json.dumps(config)), weights

    def _note(self) -> None:
        """Write where it is, if that has changed."""
        record, learner = self._record, self._learner
        if record is None or learner is None:
            return
        live = record.live.spec
        report = {
            "mode": live.online.mode, "publish_every": live.online.publish_every, "revision": live.revision,
            "labels": learner.labels, "outputs": learner.report(), "left_out": learner.left_out,
            "trouble": self._unread or self._trouble,
        }  # fmt: skip
        found = json.dumps({"state": self._state.to_json(), "report": report}).encode()
        with self._noting:
            if found != self._noted and not self._closed:
                self._registry.note_online(self._ensemble, found)
                self._noted = found


def _now_us() -> int:
    return time.time_ns() // 1000
