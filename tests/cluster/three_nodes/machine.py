"""A machine on this one: its own network, processes, shared memory and name, and a disk that outlives a power cut.

Nothing of it has a name outside, so that no run meets another's, and all of it goes when its first process does: when
it is switched off, or when whoever switched it on has died. Linux and root only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[3]
DISK = "/dev/shm/disk"  # where a machine finds its disk: it hides nothing of this machine's
_NAMESPACES = ("--net", "--mount", "--pid", "--ipc", "--uts")
# The first process takes in whatever others leave behind, and ends with its standard input.
_BOOT = """
hostname {name}; mount -t tmpfs -o size=2g tmpfs /dev/shm; mkdir {disk}; mount --bind {folder} {disk}
ip link set lo up; trap '' CHLD; echo up; exec cat
"""


class Machine:
    """Switched on when it is made."""

    def __init__(self, name: str, disk: Path):
        """Args:
        disk: a folder that keeps what is written to ``DISK``.

        Raises:
            OSError: machines cannot be made here.
        """
        self.name, self.disk = name, disk
        disk.mkdir(parents=True, exist_ok=True)
        self.switch_on()

    def switch_on(self) -> None:
        """Start with nothing but the disk."""
        boot = _BOOT.format(name=self.name, disk=DISK, folder=self.disk)
        command = ["unshare", *_NAMESPACES, "--fork", "--kill-child", "--mount-proc", "sh", "-ec", boot]
        self._holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        assert self._holder.stdout
        assert self._holder.stderr
        if self._holder.stdout.readline() != b"up\n":
            raise OSError(f"{self.name} cannot be made: {self._holder.stderr.read().decode().strip()}")
        holder = self._holder.pid
        self.pid = int(Path(f"/proc/{holder}/task/{holder}/children").read_text())

    def switch_off(self) -> None:
        """As when the power fails: every process ends at once, and nothing is said to others."""
        if self._holder.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self._holder.wait()
        for stream in (self._holder.stdin, self._holder.stdout, self._holder.stderr):
            assert stream
            stream.close()

    def command(self, *words: str, folder: Path = ROOT) -> list[str]:
        """A command line that does on the machine, in a folder, what ``words`` do here."""
        return ["nsenter", "-t", str(self.pid), *_NAMESPACES, "env", "--default-signal=INT", "-C", str(folder), *words]

    def run(self, *words: str, env: Mapping[str, str] | None = None, timeout_s: float = 120) -> str:
        """What a command says.

        Raises:
            RuntimeError: it failed; the text is what it said.
        """
        done = subprocess.run(
            self.command(*words), env=env, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} on {self.name}: {done.stdout}{done.stderr}")
        return done.stdout

    def python(
        self, module: str, *words: str, env: Mapping[str, str] | None = None, log: Path
    ) -> subprocess.Popen[str]:
        """A Python program on the machine that reads lines and writes lines; ``log`` gets what else it says."""
        with log.open("ab") as errors:
            return subprocess.Popen(
                self.command(sys.executable, "-m", module, *words),
                env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1,
                start_new_session=True,
            )  # fmt: skip

    def pids(self, words: str) -> list[int]:
        """The processes whose command line holds ``words``, by the machine's own numbers, oldest first."""
        return sorted(pid for pid, line in self.processes().items() if words in line)

    def processes(self) -> dict[int, str]:
        """The command lines of all processes, by number; its first process and threads of the kernel excepted.

        A process that was just forked bears its parent's line until it runs a program of its own: it is none yet. One
        that is just changing its title, as Ray's do with every call, shows a part of it for a moment
        (``ray::4c6c:@node.check_health`` for ``ray::ServeReplica:served.@node.4c6c:@node``): each is looked at twice,
        and the longer line is its own.
        """
        earlier, shown = self._shown(), self._shown()
        found = {
            pid: (parent, state, max(args, earlier.get(pid, (0, "", ""))[2], key=len))
            for pid, (parent, state, args) in shown.items()
        }
        return {
            pid: args
            for pid, (parent, state, args) in found.items()
            if pid != 1 and not state.startswith("Z") and not args.startswith("ps -eww")
            if not (args.startswith("ray::") and parent in found and found[parent][2] == args)
        }

    def _shown(self) -> dict[int, tuple[int, str, str]]:
        """Parent, state and command line of each process."""
        shown = self.run("ps", "-eww", "-o", "pid=,ppid=,stat=,args=").splitlines()
        return {int(pid): (int(parent), state, args) for pid, parent, state, args in (o.split(None, 3) for o in shown)}

    def signal(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process, by the machine's own number."""
        assert pid > 1, "a group of processes, or the machine itself"
        self.run("kill", f"-{int(number)}", str(pid))


class Network:
    """What machines are plugged into: a bridge on a machine of its own, where clients live, too."""

    def __init__(self, outside: Machine):
        self.outside, self._machines = outside, dict[int, Machine]()
        self._ip("link", "add", "bridge", "type", "bridge")
        self._ip("addr", "add", f"{address(254)}/24", "dev", "bridge")
        self._ip("link", "set", "bridge", "up")
        # The world beyond is said to be out of reach, for what would otherwise wait for it.
        outside.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        self._ip("route", "add", "unreachable", "default")

    def plug_in(self, machine: Machine, place: int) -> None:
        """Give a machine that was just switched on the address ``address(place)``."""
        there, self._machines[place] = str(machine.pid), machine
        with contextlib.suppress(OSError):  # of one that lost power the kernel takes the network down when it likes
            self._ip("link", "del", f"port{place}")
        self._ip("link", "add", f"port{place}", "type", "veth", "peer", "name", "eth0", "netns", there)
        self._ip("link", "set", f"port{place}", "master", "bridge", "up")
        machine.run("ip", "addr", "add", f"{address(place)}/24", "dev", "eth0")
        machine.run("ip", "link", "set", "eth0", "up")
        machine.run("ip", "route", "add", "default", "via", address(254))

    def cut(self, place: int) -> None:
        """Cut a machine off: what is sent to it and by it gets lost, and nothing says so."""
        self._ip("link", "set", f"port{place}", "down")

    def join(self, place: int) -> None:
        """Undo ``cut``."""
        self._ip("link", "set", f"port{place}", "up")

    def slow_down(self, place: int, rate: str) -> None:
        """Let no more than ``rate``, as ``tc`` writes it, reach a machine."""
        self._enter(*_shaped(f"port{place}", "rate", rate, "burst", "16kb", "latency", "400ms"))

    def shape(self, place: int, rate: str) -> None:
        """Let no more than ``rate``, as ``tc`` writes it, reach a machine, and no more leave it."""
        how = ("rate", rate, "burst", "256kb", "latency", "100ms")
        self._enter(*_shaped(f"port{place}", *how))
        self._machines[place].run(*_shaped("eth0", *how))

    def deafen(self, place: int) -> None:
        """Have what is sent to a machine get lost, and nothing say so; what it sends arrives."""
        self._enter(*_shaped(f"port{place}", *_NOTHING))

    def mute(self, place: int) -> None:
        """Have what a machine sends get lost, and nothing say so; what is sent to it arrives."""
        self._machines[place].run(*_shaped("eth0", *_NOTHING))

    def lift(self, place: int) -> None:
        """Undo ``slow_down``, ``deafen`` and ``mute``."""
        fast = ("rate", "10gbit", "burst", "10mb", "latency", "400ms")
        self._enter(*_shaped(f"port{place}", *fast))
        self._machines[place].run(*_shaped("eth0", *fast))

    def _ip(self, *words: str) -> None:
        self._enter("ip", *words)

    def _enter(self, *words: str) -> None:
        # Into its network alone: processes keep the numbers that they have here.
        command = ["nsenter", "-t", str(self.outside.pid), "--net", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")


# A bucket that no packet fits in: each is dropped, and the sender is not told.
_NOTHING = ("rate", "8bit", "burst", "10b", "limit", "10b")


def _shaped(device: str, *how: str) -> tuple[str, ...]:
    return ("tc", "qdisc", "replace", "dev", device, "root", "tbf", *how)


def address(place: int) -> str:
    """Of a machine; nobody outside of its network sees it."""
    return f"10.77.0.{place}"


def why_not() -> str:
    """Why machines cannot be made here; empty where they can."""
    if not sys.platform.startswith("linux") or os.geteuid():
        return "needs Linux and root, for network namespaces"
    try:
        subprocess.run(["unshare", *_NAMESPACES, "--fork", "--mount-proc", "ip", "link", "add", "type", "veth"],
                       check=True, capture_output=True, text=True)  # fmt: skip
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not allowed here: {error.stderr.strip()}"
    except OSError as error:
        return f"network namespaces need util-linux and iproute2 ({error})"
    return ""


def wait_for(condition, what: str, timeout_s: float = 60.0) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: it did not.
    """
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"after {timeout_s:g} s: {what}"
        time.sleep(0.1)


def environment(extra: Mapping[str, str], unset: Sequence[str] = ()) -> dict[str, str]:
    """This process's, changed."""
    return {name: value for name, value in {**os.environ, **extra}.items() if name not in unset}
