"""TCP connections by hand."""

import socket

TIMEOUT_S = 20


def connect(address):
    """Args:
    address: ``host:port``, or the URL of an HTTP door.
    """
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=TIMEOUT_S)


def is_refused(address):
    """Whether nobody listens there."""
    try:
        connect(address).close()
    except OSError:
        return True
    return False


def read_all(line):
    """Everything until the server hangs up."""
    found = b""
    try:
        while chunk := line.recv(65536):
            found += chunk
    except ConnectionResetError:
        pass
    return found


def is_closed(line):
    """Whether the server has ended a connection, after whatever it still said."""
    try:
        read_all(line)
    except TimeoutError:
        return False
    return True
