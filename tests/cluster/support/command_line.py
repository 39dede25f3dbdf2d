"""``quorate`` and Python as a person runs them, a process a call: forked, since what they import takes seconds."""

import atexit
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from quorate.deployments.control.forked_workers import REPLICA_MODULES
from quorate.deployments.fork_server.command import OF_EVERY_WORKER

_FORKS = multiprocessing.get_context("forkserver")
_COMMANDS = ("quorate.cluster.cli.main", "quorate.cluster.operations.deploy")
_MODULES = [*OF_EVERY_WORKER, *REPLICA_MODULES, *_COMMANDS, __name__]


def run(words, folder, env, timeout_s=280):
    """What ``subprocess.run`` would return of ``quorate``; of ``python`` where the words are ``-c`` and code."""
    _FORKS.set_forkserver_preload(_MODULES)
    with tempfile.TemporaryDirectory() as outputs:
        paths = [Path(outputs, name) for name in ("stdout", "stderr")]
        process = _FORKS.Process(target=_become, args=(words, str(folder), dict(env), paths))
        process.start()
        process.join(timeout_s)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout_s)
        assert process.exitcode is not None
        return subprocess.CompletedProcess(words, process.exitcode, *(path.read_text() for path in paths))


def _become(words, folder, env, outputs):
    for descriptor, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), descriptor)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.argv = ["quorate", *words]
    from quorate.cluster.cli.main import main

    try:
        if words[:1] == ["-c"]:
            exec(words[1], {"__name__": "__main__"})
        else:
            main()
    finally:
        atexit._run_exitfuncs()  # a process that was forked would end without them


class Shell:
    """Runs ``quorate`` in a folder, with a state folder of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.env = {**os.environ, "QUORATE_HOME": str(folder / "home"), "TMPDIR": "/tmp", "PYTHONWARNINGS": ""}

    def run(self, *words, code=0):
        done = run([str(word) for word in words], self.folder, self.env)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return done.stdout if code == 0 else done.stdout + done.stderr

    def python(self, code):
        """What became of code, which has ended well."""
        done = run(["-c", code], self.folder, self.env)
        assert done.returncode == 0, done.stderr
        return done

    def json(self, *words, code=0):
        return json.loads(self.run(*words, "--json", code=code).splitlines()[-1])
