"""The command line: ``quorate --help``. Every command is one call of ``quorate.cluster.operations``, shown."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer

from quorate.cluster.cli.commands.bench import bench
from quorate.cluster.cli.commands.dashboards import dashboards
from quorate.cluster.cli.commands.demo import demo
from quorate.cluster.cli.commands.deploy import deploy
from quorate.cluster.cli.commands.doctor import doctor
from quorate.cluster.cli.commands.down import down
from quorate.cluster.cli.commands.learning.drift import drift
from quorate.cluster.cli.commands.learning.feedback import feedback
from quorate.cluster.cli.commands.learning.replay import replay
from quorate.cluster.cli.commands.logs import logs
from quorate.cluster.cli.commands.manifest import manifest
from quorate.cluster.cli.commands.models.convert import convert
from quorate.cluster.cli.commands.models.import_ import import_
from quorate.cluster.cli.commands.models.init import init
from quorate.cluster.cli.commands.plan import plan
from quorate.cluster.cli.commands.promote import promote
from quorate.cluster.cli.commands.query import query
from quorate.cluster.cli.commands.rollback import rollback
from quorate.cluster.cli.commands.schema import schema
from quorate.cluster.cli.commands.shadow import shadow
from quorate.cluster.cli.commands.status import status
from quorate.cluster.cli.commands.try_spec import try_spec
from quorate.cluster.cli.commands.tuning.compress import compress
from quorate.cluster.cli.commands.tuning.train import train
from quorate.cluster.cli.commands.tuning.tune import tune
from quorate.cluster.cli.commands.validate import validate
from quorate.fusion.errors import QuorateError
from quorate.fusion.extras import missing_extra

app = typer.Typer(
    help="Run many models as one: deploy an ensemble, ask it, tune it.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
# Commands whose names are words of Python.
_NAMES = {try_spec: "try", import_: "import"}
for command in (
    init,
    validate,
    try_spec,
    schema,
    plan,
    manifest,
    deploy,
    query,
    feedback,
    replay,
    drift,
    status,
    logs,
    down,
    tune,
    train,
    compress,
    bench,
    promote,
    rollback,
    shadow,
    convert,
    import_,
    dashboards,
    demo,
    doctor,
):
    app.command(_NAMES.get(command))(command)


# Typer carries its own copy of click since 0.20: only its public names tell which class it raises.
_UsageError: Any = typer.BadParameter.__mro__[1]


def _print_version(asked: bool) -> None:
    if asked:
        from quorate.cluster.version import __version__

        print(f"quorate {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run many models as one: deploy an ensemble, ask it, tune it."""


def main() -> None:
    """Run the command line; every error is one sentence, exit code 1 for failures and 2 for wrong usage."""
    as_json = "--json" in sys.argv
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except _UsageError as error:
        _fail(error.format_message(), as_json)
        code = 2
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except QuorateError as error:
        _fail(str(error), as_json)
        code = 1
    except Exception as error:
        missing = missing_extra(error) if isinstance(error, ModuleNotFoundError) else None
        if missing is None and os.environ.get("QUORATE_DEBUG"):
            raise
        internal = f"internal error ({type(error).__name__}: {error}); QUORATE_DEBUG=1 shows the trace"
        _fail(str(missing or internal), as_json)
        code = 1
    sys.stdout.flush()
    sys.exit(code if isinstance(code, int) else 0)


def _fail(text: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": text}))
    else:
        print(f"error: {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
