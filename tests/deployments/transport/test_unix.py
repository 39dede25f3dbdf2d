"""Socket files: for their owner alone, there only while somebody listens, and never taken from a living listener."""

import asyncio
import socket
import stat

import pytest

from quorate.deployments.transport.unix import UnixListener, connect_unix, remove_dead_sockets, remove_if_dead


@pytest.fixture
def left_behind(tmp_path):
    """The socket file of a process that was killed."""
    path = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
    return path


def ignore(*_):
    pass


async def established(connection):
    while not connection.established:  # noqa: ASYNC110 (a connection tells nobody)
        await asyncio.sleep(0)


def test_a_socket_file_is_its_owners_alone_and_appears_when_it_can_be_connected_to(tmp_path):
    listener = UnixListener(tmp_path / "member")
    assert [path.name for path in tmp_path.iterdir()] == ["member"]
    assert stat.S_IMODE((tmp_path / "member").stat().st_mode) == 0o600
    listener._listening.close()


def test_who_cannot_connect_removes_the_file(left_behind):
    async def scenario():
        lost = asyncio.Event()
        connect_unix(left_behind, ignore, lambda connection: lost.set())
        await lost.wait()
        assert not left_behind.exists()

    asyncio.run(scenario())


def test_who_loses_a_killed_process_removes_its_file(tmp_path):
    path = tmp_path / "member"

    async def scenario():
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen()
        lost = asyncio.Event()
        connection = connect_unix(path, ignore, lambda connection: lost.set())
        accepted, _ = await asyncio.get_running_loop().run_in_executor(None, listening.accept)
        await established(connection)
        listening.close()
        accepted.close()
        await lost.wait()
        assert not path.exists()

    asyncio.run(scenario())


def test_a_lost_connection_leaves_the_file_of_a_living_listener(tmp_path):
    async def scenario():
        listener = UnixListener(tmp_path / "member")
        await listener.open(ignore, ignore)
        lost = asyncio.Event()
        connection = connect_unix(tmp_path / "member", ignore, lambda connection: lost.set())
        await established(connection)
        connection.abort()
        await lost.wait()
        assert (tmp_path / "member").is_socket()
        await listener.close()
        assert not (tmp_path / "member").exists()

    asyncio.run(scenario())


def test_a_listener_too_busy_to_accept_is_not_taken_for_dead(tmp_path):
    path = tmp_path / "busy"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(str(path))
        assert not remove_if_dead(path)
        assert path.is_socket()
        for each in waiting:
            each.close()


def test_a_folder_is_swept_of_dead_sockets_and_of_nothing_else(left_behind, tmp_path):
    (tmp_path / "file").touch()
    alive = UnixListener(tmp_path / "alive")
    starting = left_behind.rename(tmp_path / ".starting")
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "killed"))
    remove_dead_sockets(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [starting.name, "alive", "file"]
    alive._listening.close()
