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
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.routing.replica import Address
from quorate.deployments.transport.unix import UnixListener

FACTORIES = Path(__file__).parent / "factories"


class MemberThreads:
    """One replica of each member of an ensemble; ``sockets`` is a folder for theirs."""

    def __init__(self, spec, sockets, folder=FACTORIES):
        self._spec, self._sockets, self._folder = spec, sockets, folder
        torch.set_num_threads(1)
        self._outputs = {}
        self._loops = {name: self._start(name) for name in spec.members}

    def _start(self, name):
        member = self._spec.members[name]
        predictor = Predictor(load_model(name, member, self._folder), self._spec.job(name))
        predictor.warm_up()
        self._outputs[name] = {"datatype": predictor.datatype, "dims": predictor.dims}
        listener = UnixListener(self._path(name))
        loop = InferenceLoop(predictor, member.inputs, member.max_batch_size, [listener])
        loop.start()
        return loop

    def _path(self, name):
        return Path(self._sockets) / name

    def find(self, name, on_replicas):
        """Tell where a member's replica is; it stays there, so nobody need tell again."""
        on_replicas({"only": Address("only", "here", str(self._path(name)), **self._outputs[name])})
        return lambda: None

    async def engine(self):
        """An engine that reaches all of them."""
        engine = Engine(self._spec, self._folder, "here")
        for name in self._spec.members:
            self.find(name, functools.partial(engine.revisions.set_replicas, name))
        while not all(engine.ready().values()):
            engine.reconcile()
            await asyncio.sleep(0.01)
        return engine

    def stop(self, *names):
        """Let these members, or all, finish and leave, as Serve does when it stops a replica."""
        loops = [self._loops[name] for name in names or self._loops]
        for loop in loops:
            loop.drain(0)  # all at the same time
        for loop in loops:
            loop.drain(5)


@contextlib.asynccontextmanager
async def running(spec):
    """An engine in front of members that are all there."""
    with tempfile.TemporaryDirectory(prefix="q") as folder:
        members = MemberThreads(parse_spec(spec), folder)
        try:
            engine = await members.engine()
            try:
                yield engine
            finally:
                engine.close()
        finally:
            members.stop()
