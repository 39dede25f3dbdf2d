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
                starts = request["operation"] in _STARTING
                if starts:
                    _bring_code(cluster, address)
                with received(job, request, say, spread=starts) as folder:
                    result = _OPERATIONS[request["operation"]](folder, **request["arguments"])
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


def _status(_: Path) -> Any:
    from quorate.cluster.operations.status import status

    return status().to_dict()


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


# Those that have nodes start something.
_STARTING = {"deploy", "promote", "rollback"}
_OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "deploy": _deploy, "promote": _promote, "plan": _plan, "rollback": _rollback, "status": _status,
    "connect": _connect, "down": _down, "logs": _logs,
}  # fmt: skip
