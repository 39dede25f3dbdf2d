"""A save that is killed before each thing it does to a file and within each write, and what is read afterwards."""

import itertools
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

    A child of this process saves, and before each step keeps what stands there, which is what a kill at that moment
    leaves: opening a file to write, forcing it to the disk, renaming, linking, removing. A fork for each would take a
    large process a tenth of a second. After that, others are killed by the kernel within a write, when a file would
    grow beyond so many bytes: that finds writers that are not Python, too.
    """
    steps = folder.with_name(f"{folder.name}-steps")
    steps.mkdir()
    before = steps / "before"
    _copy(folder, before)
    assert _ends(save, lambda: _keep_before_each_step(folder, steps)) == 0
    whole = read()
    sizes = {path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    seen, killed = [], len(list(steps.iterdir())) - 1
    for number in range(killed):
        _restore(folder, steps / str(number))
        seen.append(read())
    for limit in sorted({size // 2 for size in sizes}):
        _restore(folder, before)
        if _ends(save, lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))):
            seen.append(read())
            killed += 1
    assert killed > 1, "a save has more steps than that"
    _restore(folder, before)
    shutil.rmtree(steps)
    return [*seen, whole]


def _restore(folder, kept):
    shutil.rmtree(folder)
    _copy(kept, folder)


def _copy(source, target):
    """A tree as it is: links of either kind stay links."""
    copies = dict[int, str]()

    def copy(one, other):
        inode = os.lstat(one).st_ino
        if inode in copies:
            os.link(copies[inode], other)
        else:
            copies[inode] = shutil.copy2(one, other)

    shutil.copytree(source, target, symlinks=True, copy_function=copy)


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
    assert code in (0, -signal.SIGXFSZ), "the save failed"
    return code


def _keep_before_each_step(folder, steps):
    """Copy the folder before each step of this process, by its number."""
    numbers, keeping = itertools.count(), False

    def step():
        nonlocal keeping
        if not keeping:
            keeping = True
            _copy(folder, steps / str(next(numbers)))
            keeping = False

    def heard(event, args):
        if event in _STEPS or (event == "open" and args[2] & _WRITING):
            step()

    def fsync(file):
        step()

    sys.addaudithook(heard)
    # A kill loses nothing that was written: the disk is not waited for.
    mock.patch.object(os, "fsync", fsync).start()
