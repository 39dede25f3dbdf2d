"""Member replicas on threads of this process: real sockets, quick to start, not to be killed."""

import asyncio
import contextlib
import functools
import tempfile
from pathlib import Path

import torch

from quorate.deployments import load_model, parse_spec
from quorate.deployments.engine.engine import Engine
from quorate.deployments.members.inference_loop import InferenceLoop
from quorate.deployments.members.inside.inside_thread import InsideThread
from quorate.deployments.members.member_group import MemberGroup
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.routing.replica import Address
from quorate.deployments.transport.unix import UnixListener

FACTORIES = Path(__file__).parent / "factories"


PLACEMENTS = ("apart", "together", "inside")


class MemberThreads:
    """One replica of each member of an ensemble, of all together, or all inside of the process of the engine.

    ``sockets`` is a folder for theirs.

    Attributes:
        apps: what runs each member.
    """

    def __init__(self, spec, sockets, folder=FACTORIES, placement="apart"):
        self._spec, self._sockets, self._folder = spec, sockets, folder
        torch.set_num_threads(1)
        self._outputs = {}
        names = list(spec.members)
        self.apps = {name: name if placement == "apart" else "all" for name in names}
        self._inside = None
        if placement == "inside":
            self._inside = InsideThread(MemberGroup([self._predictor(name) for name in names]))
            self._outputs["all"] = self._shared(self._inside.group)
            self._inside.start()
            self._loops = {}
        else:
            groups = [[name] for name in names] if placement == "apart" else [names]
            self._loops = {self.apps[group[0]]: self._start(group) for group in groups}

    def _predictor(self, name):
        predictor = Predictor(load_model(name, self._spec.members[name], self._folder), self._spec.job(name))
        predictor.warm_up()
        return predictor

    def _shared(self, group):
        return {"members": group.names, "outputs": tuple((one.datatype, one.dims) for one in group.members)}

    def _start(self, names):
        app, group = self.apps[names[0]], MemberGroup([self._predictor(name) for name in names])
        alone = {"datatype": group.members[0].datatype, "dims": group.members[0].dims}
        self._outputs[app] = alone if app != "all" else self._shared(group)
        loop = InferenceLoop(group, [UnixListener(self._path(app))])
        loop.start()
        return loop

    def _path(self, name):
        return Path(self._sockets) / name

    def find(self, name, on_replicas):
        """Tell where an application's replica is; it stays there, so nobody need tell again."""
        path = "" if self._inside else str(self._path(name))
        on_replicas({"only": Address("only", "here", path, **self._outputs[name])})
        return lambda: None

    async def engine(self):
        """An engine that reaches all of them."""
        engine = Engine(self._spec, self._folder, "here", None, self.apps, lambda replica: self._inside)
        for name in dict.fromkeys(self.apps.values()):
            self.find(name, functools.partial(engine.revisions.set_replicas, name))
        while not all(engine.ready().values()):
            engine.reconcile()
            await asyncio.sleep(0.01)
        return engine

    def stop(self, *names):
        """Let these members, or all, finish and leave, as Serve does when it stops a replica."""
        if self._inside is not None:
            self._inside.stop()
            self._inside.join(5)
        loops = [self._loops[name] for name in names or self._loops]
        for loop in loops:
            loop.drain(0)  # all at the same time
        for loop in loops:
            loop.drain(5)


@contextlib.asynccontextmanager
async def running(spec, placement="apart"):
    """An engine in front of members that are all there."""
    with tempfile.TemporaryDirectory(prefix="q") as folder:
        members = MemberThreads(parse_spec(spec), folder, placement=placement)
        try:
            engine = await members.engine()
            try:
                yield engine
            finally:
                engine.close()
        finally:
            members.stop()
