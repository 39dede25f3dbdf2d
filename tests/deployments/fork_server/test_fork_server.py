"""Workers of Ray that are forked: each as Ray meant it, and no worse off when there is no server to fork it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from quorate.deployments.control.forked_workers import REPLICA_MODULES, worker_options
from quorate.deployments.fork_server.command import OF_EVERY_WORKER, forking_runtime_env
from quorate.tuning import ray_session

# A tiny member's replica is to hold no more memory of its own.
OWN_BYTES = 150 << 20


class Worker:
    def torch_bytes(self):
        """What the process holds alone once torch is there."""
        import torch

        torch.zeros(1)
        return psutil.Process().memory_full_info().uss

    def variable(self, name):
        return os.environ.get(name)

    def draw(self):
        import numpy as np

        return np.random.rand()

    def task_of_a_thread(self):
        """The id of a task that is sent from a thread which runs none."""
        import ray

        sent: list[Any] = []
        task: Any = ray.remote(num_cpus=0)(lambda: None)
        thread = threading.Thread(target=lambda: sent.append(task.remote()))
        thread.start()
        thread.join()
        return sent[0].task_id().hex()

    def parent(self):
        return os.getppid()

    def started(self):
        return Path(sys.argv[0]).name, Path(str(sys.modules["__main__"].__file__)).name, os.getcwd()


@pytest.fixture
def start(cluster):
    actors = []

    def begin(**environment):
        actor = cluster.remote(num_cpus=0.1)(Worker).options(runtime_env=environment).remote()
        actors.append(actor)
        return lambda method, *arguments: cluster.get(getattr(actor, method).remote(*arguments))

    yield begin
    for actor in actors:
        cluster.kill(actor)


@pytest.mark.parametrize("environment", [{}, forking_runtime_env()], ids=["of this node", "of a node of others"])
def test_forked_workers_share_what_they_have_imported(start, environment):
    one, other = start(**environment), start(**environment)
    assert one("parent") == other("parent")
    assert one("torch_bytes") < OWN_BYTES


@pytest.mark.parametrize("environment", [{}, forking_runtime_env()], ids=["of this node", "of a node of others"])
def test_a_forked_worker_is_the_program_that_ray_meant_to_start(start, cluster, environment):
    one = start(**environment)
    assert one("started")[:2] == ("default_worker.py", "default_worker.py")
    assert one("variable", "RAY_JOB_ID") == cluster.get_runtime_context().get_job_id()


def test_workers_of_another_environment_have_that(start):
    one, other = start(**forking_runtime_env(), env_vars={"QUORATE_TEST": "1"}), start(**forking_runtime_env())
    assert (one("variable", "QUORATE_TEST"), other("variable", "QUORATE_TEST")) == ("1", None)
    assert one("parent") != other("parent")


def test_forked_workers_draw_different_random_numbers(start):
    assert start()("draw") != start()("draw")


def test_when_the_server_is_killed_its_workers_go_on_and_the_next_has_a_new_one(start):
    one = start()
    server = one("parent")
    os.kill(server, signal.SIGKILL)
    other = start()
    assert one("draw") != other("draw")
    assert other("parent") != server


def test_a_node_that_has_quorate_elsewhere_starts_its_own_python(start):
    elsewhere = forking_runtime_env()["py_executable"].replace("start_worker.py", "not_there.py")
    one = start(py_executable=elsewhere)
    assert one("started")[0] == "default_worker.py"


def test_a_module_that_cannot_be_imported_costs_nobody_a_worker(start):
    assert start(**forking_runtime_env(["quorate.not_there"]))("started")[0] == "default_worker.py"


@pytest.mark.parametrize("name", ["pip", "conda", "uv", "py_executable", "image_uri"])
def test_where_another_interpreter_is_asked_for_no_worker_is_forked(name):
    assert forking_runtime_env(beside={name: "any"}) == {}


def test_an_actor_that_was_forked_asks_for_forked_ones():
    assert forking_runtime_env(beside=forking_runtime_env()) == forking_runtime_env()


def test_where_every_node_forks_its_workers_nothing_is_asked_for(cluster):
    assert worker_options(REPLICA_MODULES) == {}


@pytest.mark.parametrize(
    ("names", "differ"),
    [
        ({*REPLICA_MODULES, *ray_session.MODULES, *OF_EVERY_WORKER}, True),
        ({"ray.serve"}, False),
    ],
    ids=["all that workers import", "Serve as everybody imports it"],
)
@pytest.mark.long
def test_what_is_imported_before_forks_draws_no_id_or_nothing_is_forked(names, differ):
    code = f"""
import {", ".join(sorted(names))}
from quorate.deployments.fork_server import server
print(server._forks_draw_different_ids())
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said == f"{differ}\n"


def test_forked_workers_give_their_tasks_different_ids(start, cluster):
    """Where they share Ray's generator, a call of two of them has one id."""
    assert len({start()("task_of_a_thread") for _ in range(4)}) == 4


ANOTHER_DRIVER = """
import os, ray
ray.init(address={address!r}, log_to_driver=False, configure_logging=False)
print(ray.get(ray.remote(num_cpus=0)(lambda: os.environ["RAY_JOB_ID"]).remote(), timeout=240))
"""


def test_a_second_driver_has_its_work_done_where_workers_were_forked_for_the_first(cluster):
    first = cluster.get(cluster.remote(num_cpus=0)(lambda: os.environ["RAY_JOB_ID"]).remote())
    code = ANOTHER_DRIVER.format(address=cluster.get_runtime_context().gcs_address)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert first == cluster.get_runtime_context().get_job_id()
    assert done.stdout.strip() not in ("", first)
