"""The other interpreter's side: loads a model and runs it for whoever started it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from quorate.deployments.errors import MemberLoadError
from quorate.deployments.member_traceback import own_lines
from quorate.deployments.sources.content.row_errors import BadRowsError
from quorate.deployments.sources.interpreter.exchange import receive, send
from quorate.deployments.sources.loading import load_model
from quorate.deployments.sources.model import Model
from quorate.deployments.sources.outputs import OutputError
from quorate.deployments.spec.schema import MemberSpec


def main() -> None:
    """Answer until the other side is gone. Arguments: descriptors of two pipes, for questions, and that says so."""
    connection, alive = (Connection(int(word)) for word in sys.argv[1:3])
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        _serve(connection)


def _serve(connection: Connection) -> None:
    asked, _ = receive(connection)
    device = asked["device"] and torch.device(asked["device"])
    try:
        torch.set_num_threads(asked["threads"])
        spec = MemberSpec.model_validate_json(asked["spec"])
        model = load_model(asked["name"], spec, Path(asked["folder"]), device)
    except MemberLoadError as error:
        send(connection, {"refused": [error.found, error.fix, error.trace]})
        return
    send(connection, _described(model))
    while True:
        _, inputs = receive(connection)
        try:
            output = model.predict(inputs)
        except Exception as error:  # a member may raise anything at all
            send(connection, _failure(error))
        else:
            send(connection, {"classes": model.classes}, {"output": output})


def _described(model: Model) -> dict[str, Any]:
    return {"device": str(model.device), "classes": model.classes, "content": dict(model.content)}


def _failure(error: Exception) -> dict[str, Any]:
    """What the other side raises in its place."""
    said: dict[str, Any] = {"kind": type(error).__name__, "text": str(error), "trace": own_lines(error)}
    said["whole"] = "".join(traceback.format_exception(error))
    if isinstance(error, BadRowsError):
        said["rows"] = [[int(row), text] for row, text in error.rows.items()]
    if isinstance(error, OutputError):
        said["output"] = [error.found, error.fix]
    return said


def _end_with(alive: Connection) -> None:
    """End at once when the other side has ended, whatever the model is doing."""
    try:
        alive.recv_bytes()
    except (EOFError, OSError):
        os._exit(0)
