"""Member replicas as real processes with real sockets, but without Ray: to be killed, stopped, drained."""

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from quorate.deployments import parse_spec
from quorate.deployments.engine.engine import Engine
from quorate.deployments.routing.replica import Address
from tests.deployments.support.factories import oracle

FACTORIES = Path(__file__).parent / "factories"
MEMBERS = ("a", "b", "c")
BIT = {name: 1 << i for i, name in enumerate(MEMBERS)}
TOGETHER = "abc"  # what stands for all of them, where they share processes
WEIGHTS = {"a": 0.5, "b": 0.3, "c": 0.2}

# A fork of a process that has imported everything starts in a tenth of a second, a new interpreter in three.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__, "quorate.deployments.members.replica"])


def _serve(jobs, path, started):
    import torch

    from quorate.deployments.members.inference_loop import InferenceLoop
    from quorate.deployments.members.member_group import MemberGroup
    from quorate.deployments.members.predictor import Predictor
    from quorate.deployments.sources.loading import load_model
    from quorate.deployments.transport.unix import UnixListener

    drain = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: drain.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    predictors = [Predictor(load_model(job.name, job.member, FACTORIES), job) for job in jobs]
    for predictor in predictors:
        predictor.warm_up()
    loop = InferenceLoop(MemberGroup(predictors), [UnixListener(path)])
    loop.start()
    started.send(True)
    while loop.is_alive() and not drain.wait(0.2):
        pass
    loop.drain(10)
    os._exit(0 if drain.is_set() else 1)


class MemberProcess:
    """One replica of one member, or of all where they are together."""

    _numbers = itertools.count()

    def __init__(self, spec, name, folder):
        self.replica_id = f"{name}{next(self._numbers)}"
        self.path = Path(folder) / self.replica_id
        self._names = tuple(spec.members) if name == TOGETHER else (name,)
        self._started, far_end = _FORKS.Pipe()
        jobs = [spec.job(member) for member in self._names]
        self._process = _FORKS.Process(target=_serve, args=(jobs, self.path, far_end), daemon=True)
        self._process.start()
        far_end.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def wait(self):
        if not self._started.poll(60) or not self._started.recv():
            raise RuntimeError(f"{self.replica_id} did not start")
        self._started.close()

    @property
    def address(self):
        address = Address(self.replica_id, "node", str(self.path))
        if len(self._names) == 1:
            return address
        return replace(address, members=self._names, outputs=(("FP32", (4,)),) * len(self._names))

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self._process.kill()
        self._process.join()

    def stop(self):
        """Returns when every thread stands still: on a busy machine that may be after it has answered another call."""
        self.signal(signal.SIGSTOP)
        while {_thread_state(stat) for stat in Path(f"/proc/{self.pid}/task").glob("*/stat")} != {"T"}:
            time.sleep(0.001)

    def resume(self):
        self.signal(signal.SIGCONT)

    def drain(self):
        """Begin to leave; ``gone`` tells when the process has ended."""
        self._process.terminate()

    def gone(self):
        return not self._process.is_alive()


def _thread_state(stat):
    return stat.read_text().rpartition(")")[2].split()[0]  # proc_pid_stat(5)


class Fleet:
    """The replicas of every member of one ensemble, and the directory that an engine learns their addresses from."""

    def __init__(self, spec, together=False):
        self.spec = spec
        self._folder = tempfile.mkdtemp(prefix="q")
        self.apps = {name: TOGETHER if together else name for name in spec.members}
        self.replicas: dict[str, list[MemberProcess]] = {app: [] for app in self.apps.values()}
        self._all = []

    def launch(self, name):
        """Start a replica; it counts once ``MemberProcess.wait`` returned and it was announced."""
        process = MemberProcess(self.spec, name, self._folder)
        self.replicas[name].append(process)
        self._all.append(process)
        return process

    def announce(self, engine):
        for name, replicas in self.replicas.items():
            engine.revisions.set_replicas(name, {replica.replica_id: replica.address for replica in replicas})

    def ready(self, engine, name):
        """The replicas that the engine sends calls to."""
        member = engine.revisions.live.members["a" if name == TOGETHER else name]
        return {i for i, peer in member.replicas.items() if peer.ready and not peer.leaving}

    def seen(self):
        """(pid, number) of every row that a member of this fleet began to work on."""
        lines = Path(self.spec.members["a"].config["log"]).read_text().splitlines()
        return [tuple(map(int, line.split())) for line in lines]

    def close(self):
        for process in self._all:
            process.kill()
        shutil.rmtree(self._folder)


def ensemble(members=MEMBERS, log="", broken="", keep=False, serving=None, max_batch_size=64, **fusion):
    return parse_spec(
        {
            "name": "oracle",
            "inputs": {"row": {"datatype": "INT64", "shape": [3]}},
            "classes": ["one", "two", "three", "rest"],
            "members": {
                name: {
                    "model": "oracle:numbered", "inputs": ["row"], "output": "probabilities",
                    "config": {"member": MEMBERS.index(name), "log": str(log), "broken": str(broken), "keep": keep},
                    "max_batch_size": max_batch_size,
                }
                for name in members
            },
            "fusion": {
                "rule": "weighted_mean", "weights": {m: WEIGHTS[m] for m in members}, "deadline_s": 5.0, **fusion,
            },
            "serving": serving or {},
        }
    )  # fmt: skip


def row(number, command=oracle.NONE, members=""):
    """(1, 3): ask for ``number``, with a command to the members whose letters are in ``members``."""
    return rows((number, command, members))


def rows(*commands):
    table = [(number, command, sum(BIT[m] for m in members)) for number, command, members in commands]
    return {"row": np.array(table, dtype=np.int64)}


def expected(numbers, used, weights):
    """(B, 4): the weighted mean of exactly the members ``used``, in float64 from its definition."""
    total = sum(weights[m] for m in used)
    return sum(weights[m] / total * oracle.shares(numbers, MEMBERS.index(m)).astype(np.float64) for m in used)


def assert_right(answer, inputs, weights=None):
    """The answer is the fusion of the members it names, row by row."""
    numbers = inputs["row"][:, 0]
    for at in range(len(numbers)):
        partly = {m for m, missing in answer.rows_missing.items() if at in missing}
        used = [m for m in answer.members_used if m not in partly]
        np.testing.assert_allclose(
            answer.values[at], expected(numbers[at : at + 1], used, weights or WEIGHTS)[0], rtol=0, atol=1e-6
        )


async def until(condition, timeout_s=20.0):
    for _ in range(int(timeout_s / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to pass")


@contextlib.asynccontextmanager
async def serving(spec, replicas=None, together=False):
    """An engine in front of as many processes per member as ``replicas`` says (one each), all ready.

    Where members are ``together`` they have the same processes, as many as ``replicas`` says of any.
    """
    fleet = Fleet(spec, together)
    replicas = {TOGETHER: max((replicas or {"": 1}).values())} if together else replicas
    try:
        for name in fleet.replicas:
            for _ in range((replicas or {}).get(name, 1)):
                fleet.launch(name)
        for processes in fleet.replicas.values():
            for process in processes:
                process.wait()
        engine = Engine(spec, FACTORIES, "node", None, fleet.apps)
        try:
            fleet.announce(engine)
            ready = {name: len(fleet.replicas[app]) for name, app in fleet.apps.items()}
            await until(lambda: engine.ready() == ready)
            yield engine, fleet
        finally:
            engine.close()
    finally:
        fleet.close()


def metric(engine, name, **labels):
    """The value of one Prometheus sample."""
    from prometheus_client.parser import text_string_to_metric_families

    for family in text_string_to_metric_families(engine.metrics.text().decode()):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    raise KeyError(name)
