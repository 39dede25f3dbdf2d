"""A save that is killed before each thing it does to a file and within each write, and what is read afterwards."""

import os
import resource
import shutil
import signal
import sys
import traceback
import warnings
from unittest import mock

# Everything that a save does to files, as Python tells it of itself (docs.python.org/3/library/audit_events.html).
_STEPS = {"os.rename", "os.link", "os.symlink", "os.mkdir", "os.remove", "os.rmdir"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def read_after_each_kill(folder, save, read):
    """What ``read`` returns after each kill of ``save``, each time from the folder as it is now; at last, unkilled.

    A child of this process is killed before its first step, the next before its second, and so on: opening a file to
    write, forcing it to the disk, renaming, linking, removing. After that, others are killed by the kernel within a
    write, when a file would grow beyond so many bytes: that finds writers that are not Python, too.
    """
    before = folder.with_name(f"{folder.name}-before")
    shutil.copytree(folder, before, symlinks=True)
    seen, number = [], 0
    while _ends(save, lambda number=number: _kill_before(number)) == -signal.SIGKILL:
        seen.append(read())
        _restore(folder, before)
        number += 1
    whole = read()
    sizes = {path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    for limit in sorted({size // 2 for size in sizes}):
        _restore(folder, before)
        if _ends(save, lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))):
            seen.append(read())
            number += 1
    assert number > 1, "a save has more steps than that"
    _restore(folder, before)
    shutil.rmtree(before)
    return [*seen, whole]


def _restore(folder, before):
    shutil.rmtree(folder)
    shutil.copytree(before, folder, symlinks=True)


def _ends(save, arm):
    """How a child ends that runs ``save``: 0, or minus the number of the signal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the threads that a child would miss: it needs none
        child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            arm()
            save()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL, -signal.SIGXFSZ), "the save failed"
    return code


def _kill_before(number):
    """Kill this process before its step of this number."""
    left = [number]

    def step():
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    def heard(event, args):
        if event in _STEPS or (event == "open" and args[2] & _WRITING):
            step()

    def fsync(file):
        step()

    sys.addaudithook(heard)
    # A kill loses nothing that was written: the disk is not waited for.
    mock.patch.object(os, "fsync", fsync).start()
