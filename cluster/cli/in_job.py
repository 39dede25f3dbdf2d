"""What runs in a job that an operator's machine has submitted: one operation, its words to the log, line by line."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from quorate.cluster.jobs.call import request_name, stop_name
from quorate.cluster.jobs.parcel import SPEC
from quorate.cluster.local.connection import connected
from quorate.deployments.own_code.archive import own_digest
from quorate.deployments.own_code.boot import SAYS
from quorate.fusion.errors import QuorateError

_STOP_POLL_S = 0.5


def say(**words: Any) -> None:
    """A line for the operator's machine."""
    print(f"{SAYS}{json.dumps(words)}", flush=True)


def step(text: str) -> None:
    """What is waited for."""
    say(step=text)


def main(job: str) -> None:
    """Run the job's operation; this process runs with the operator's Quorate."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray blocks it in what it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    address = os.environ["RAY_ADDRESS"]
    try:
        with ExitStack() as cluster:
            cluster.enter_context(connected(address))
            from quorate.cluster.jobs.receiving import forget, received, take

            request, done = json.loads(take(request_name(job))), threading.Event()
            threading.Thread(target=_watch_for_stop, args=(job, done), name="stop", daemon=True).start()
            try:
                operation = request["operation"]
                if operation in _SPREAD:
                    _bring_code(cluster, address)
                with received(job, request, say, _SPREAD.get(operation, "")) as folder:
                    try:
                        if operation in _RUNS:
                            result = _run(job, operation, folder, **request["arguments"])
                        else:
                            result = _OPERATIONS[operation](folder, **request["arguments"])
                    except QuorateError as error:
                        raise _without_folder(error, folder) from None
            finally:
                done.set()
                forget(job)
        say(result=result)
    except KeyboardInterrupt:
        sys.exit(130)
    except QuorateError as error:
        say(error=[type(error).__name__, _plain(error.args), str(error)])
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()  # for the job's log
        say(error=["ClusterError", [f"internal error in the job {job} ({type(error).__name__}: {error})"], ""])
        sys.exit(1)


def _bring_code(cluster: ExitStack, address: str) -> None:
    """Have workers run with this process's Quorate, as it is installed on their nodes or else brought there."""
    from quorate.deployments.control.artifacts.worker_code import nodes_without, ship_own_code

    without = nodes_without(own_digest())
    if without:
        step(f"bringing Quorate to {', '.join(without)}")
        environment = ship_own_code()
        cluster.close()
        cluster.enter_context(connected(address, runtime_env=environment))


def _watch_for_stop(job: str, done: threading.Event) -> None:
    """End as on Ctrl-C when the operator's machine says so."""
    from quorate.cluster.jobs.receiving import is_there

    while not done.wait(_STOP_POLL_S):
        with suppress(QuorateError):  # the head is away, or this process connects anew
            if is_there(stop_name(job)):
                os.kill(os.getpid(), signal.SIGINT)
                return


def _plain(arguments: tuple[Any, ...]) -> list[Any]:
    """An error's arguments, in JSON's types where they are."""
    plain: list[Any] = json.loads(json.dumps(arguments, default=str))
    return plain


def _deploy(folder: Path, doors: dict[str, Any] | None, **options: Any) -> Any:
    from pydantic import TypeAdapter

    from quorate.cluster.operations.deploy import deploy
    from quorate.deployments.security.doors import Doors

    found = None if doors is None else TypeAdapter(Doors).validate_python(doors)
    done = deploy(folder / SPEC, doors=found, on_step=step, **options)
    return {**done.to_dict(), "classes": done.classes, "note": done.note}


def _promote(folder: Path, **options: Any) -> Any:
    from quorate.cluster.operations.promote import promote

    return promote(folder, on_step=step, **options).to_dict()


def _plan(folder: Path) -> Any:
    from quorate.cluster.operations.plan import plan

    return plan(folder / SPEC).to_dict()


def _rollback(_: Path, name: str) -> Any:
    from quorate.cluster.operations.rollback import rollback

    return rollback(name).to_dict()


def _shadow(folder: Path, spec: bool, **options: Any) -> Any:
    from quorate.cluster.operations.shadow import shadow

    return shadow(**options, spec=folder / SPEC if spec else None, on_step=step).to_dict()


def _drift(_: Path, name: str) -> Any:
    from quorate.cluster.operations.learning.drift import drift

    return drift(name).to_dict()


def _status(_: Path, online: bool) -> Any:
    from quorate.cluster.operations.status import status

    return status(online=online).to_dict()


def _connect(_: Path, name: str | None) -> Any:
    from quorate.cluster.operations.connect import connect

    done = connect(name)
    return {**done.to_dict(), "urls": done.urls, "classes": done.classes}


def _down(_: Path, name: str | None) -> Any:
    from quorate.cluster.operations.down import take_down

    return {"stopped": take_down(name)}


def _logs(_: Path, **options: Any) -> Any:
    from quorate.cluster.operations.logs import logs

    return logs(**options).to_dict()


def _run(job: str, operation: str, folder: Path, told: dict[str, Any]) -> Any:
    """What makes a run: it goes to the operator's machine, as far as it got where it can be taken up."""
    from importlib import import_module

    from quorate.cluster.jobs.handing_over import hand_over, runs_folder
    from quorate.cluster.jobs.sent_arguments import unpacked

    call = getattr(import_module(f"quorate.cluster.operations.tuning.{_RUNS[operation]}"), operation)
    with runs_folder(job) as runs:
        asked = unpacked(told, folder, runs)
        if _RUNS[operation] == "sweep":
            asked["on_progress"] = lambda progress: say(progress=asdict(progress))
        else:
            asked["on_step"] = step
        try:
            result = call(**asked, **({} if operation == "resume" else {"runs": runs}))
        except (KeyboardInterrupt, QuorateError):
            if any((path / mark).exists() for path in runs.iterdir() for mark in _TAKEN_UP_BY):
                hand_over(job, runs, say, whole=False)
            raise
        tables = [asdict(table) for table in result.tables()]
        hand_over(job, runs, say, whole=True)
        recommended = getattr(result, "deployable", result.folder / SPEC)
        report = {"spec": str(recommended), **result.to_dict()}
        return {"folder": str(result.folder), "report": report, "tables": tables}


def _without_folder(error: QuorateError, folder: Path) -> QuorateError:
    """An error in which files are called as the operator has them."""
    here = f"{folder}/"
    shown = [one.replace(here, "") if isinstance(one, str) else one for one in error.args]
    return error if shown == list(error.args) else type(error)(*shown)


# What has nodes start something: what was sent goes to others, too.
_SPREAD: Mapping[str, Any] = {
    "deploy": "copies", "promote": "copies", "rollback": "copies", "shadow": "copies", "tune": "everywhere",
    "train": "everywhere", "compress": "everywhere", "sweep": "everywhere", "resume": "everywhere",
}  # fmt: skip
# In which file of operations each is; and what a run has that can be taken up.
_RUNS = {"tune": "tune", "train": "train", "compress": "compress", "sweep": "sweep", "resume": "sweep"}
_TAKEN_UP_BY = ("sweep.json", "training")
_OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "deploy": _deploy, "promote": _promote, "plan": _plan, "rollback": _rollback, "status": _status,
    "connect": _connect, "down": _down, "logs": _logs, "shadow": _shadow, "drift": _drift,
}  # fmt: skip
