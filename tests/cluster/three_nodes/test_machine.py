"""Machines on this one: apart from each other, joined by a network, gone without a trace."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.three_nodes.machine import DISK, ROOT, Machine, Network, address, wait_for, why_not

pytestmark = pytest.mark.long

_MAKER = """
import sys, time
from pathlib import Path
from tests.cluster.three_nodes.machine import Machine
machine = Machine("left", Path(sys.argv[1]))
machine.run("sh", "-c", "sleep 7777 >/dev/null 2>&1 &")
print(machine.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def pair(tmp_path):
    """Two machines on a network."""
    if problem := why_not():
        pytest.skip(problem)
    outside = Machine("outside", tmp_path / "outside")
    machines = [Machine(f"node{place}", tmp_path / f"node{place}") for place in (1, 2)]
    network = Network(outside)
    for place, machine in enumerate(machines, 1):
        network.plug_in(machine, place)
    yield network, *machines
    for machine in (*machines, outside):
        machine.switch_off()


def reaches(machine, place, port=4000):
    ask = f"import socket; socket.create_connection(({address(place)!r}, {port}), 0.5)"
    return subprocess.run(machine.command(sys.executable, "-c", ask), capture_output=True, check=False).returncode == 0


def listen(machine, port=4000):
    serve = f"import socket, time; door = socket.create_server(('0.0.0.0', {port})); time.sleep(3600)"
    machine.run("sh", "-c", f'{sys.executable} -c "{serve}" >/dev/null 2>&1 &')


def gets_word(to, sender, place):
    """Whether a packet that asks for no answer arrives at a machine."""
    hear = f"import socket; s = socket.socket(type=2); s.bind(({address(place)!r}, 4001)); s.settimeout(2)"
    say = f"import socket; socket.socket(type=2).sendto(b'word', ({address(place)!r}, 4001))"
    with subprocess.Popen(
        to.command(sys.executable, "-c", f"{hear}; print(flush=True); s.recv(9)"),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as hearing:  # fmt: skip
        assert hearing.stdout
        hearing.stdout.readline()
        sender.run("sh", "-c", f'{sys.executable} -c "{say}" || true')  # some links say that they have dropped it
    return hearing.returncode == 0


def names_here():
    """Links and mounts of this machine."""
    links = json.loads(subprocess.run(["ip", "-j", "link"], capture_output=True, check=True).stdout)
    return {link["ifname"] for link in links}, Path("/proc/self/mounts").read_text()


def test_machines_reach_each_other_unless_one_is_cut_off(pair):
    network, one, two = pair
    listen(two)
    wait_for(lambda: reaches(one, 2), "the other machine answers")
    network.cut(2)
    assert not reaches(one, 2)
    network.join(2)
    wait_for(lambda: reaches(one, 2), "the other machine answers again")


@pytest.mark.parametrize(("cut", "hears", "is_heard"), [("deafen", False, True), ("mute", True, False)])
def test_of_a_machine_that_is_cut_off_one_way_the_other_way_goes_on(pair, cut, hears, is_heard):
    network, one, two = pair
    listen(two)
    wait_for(lambda: reaches(one, 2), "the other machine answers")  # from now on both know each other's links
    getattr(network, cut)(2)
    assert (gets_word(two, one, place=2), gets_word(one, two, place=1)) == (hears, is_heard)
    assert not reaches(one, 2)
    network.lift(2)
    assert (gets_word(two, one, place=2), gets_word(one, two, place=1)) == (True, True)
    wait_for(lambda: reaches(one, 2), "the other machine answers again")


def test_a_machine_that_loses_power_keeps_its_disk_and_address_and_nothing_else(pair):
    network, one, two = pair
    listen(two)
    two.run("sh", "-c", f"echo kept > {DISK}/file; echo lost > /dev/shm/file")
    two.switch_off()
    assert not reaches(one, 2)
    two.switch_on()
    network.plug_in(two, 2)
    assert two.processes() == {}
    assert two.run("cat", f"{DISK}/file") == "kept\n"
    assert two.run("ls", "/dev/shm").split() == ["disk"]
    listen(two)
    wait_for(lambda: reaches(one, 2), "the machine answers at its address")


def inside(pid):
    """The processes of the machine that a process is on, by the numbers they have here."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if (process / "ns/pid").readlink() == Path(f"/proc/{pid}/ns/pid").readlink():
                found.append(int(process.name))
    return found


def test_nothing_of_a_machine_is_left_when_it_has_gone_and_no_name_is_ever_taken(tmp_path):
    if problem := why_not():
        pytest.skip(problem)
    before = names_here()
    machine = Machine("apart", tmp_path)
    machine.run("sh", "-c", "sleep 7777 >/dev/null 2>&1 &")
    there = inside(machine.pid)
    assert len(there) == 2
    assert names_here() == before
    machine.switch_off()
    assert not any(Path(f"/proc/{pid}").exists() for pid in there)
    assert names_here() == before


def test_a_machine_ends_with_whoever_made_it(tmp_path):
    if problem := why_not():
        pytest.skip(problem)
    maker = subprocess.Popen([sys.executable, "-c", _MAKER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    with maker:
        assert maker.stdout
        there = inside(int(maker.stdout.readline()))
        assert len(there) == 2
        maker.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in there), "its processes end")
