"""What an HTTP request may do: its bearer token, and for what is free on this machine, where it comes from."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from quorate.deployments.errors import ForbiddenError
from quorate.deployments.security.access import Doorkeeper, Level
from quorate.deployments.server.compression import Headers

# Where Ray Serve's own proxies have it: KubeRay looks for the word ``success`` there, and load balancers for 200.
SERVE_HEALTH = "/-/healthz"
OPEN_PATHS = ("/v2/health/live", "/v2/health/ready", SERVE_HEALTH, "/")
# Of the management paths, those that only tell; all others, also ones that come later, need a management token.
_TELLING = re.compile(r"/v2/models(/.+)?/(stats|config)|/v2/repository/index")


def check_request(keeper: Doorkeeper, path: str, headers: Headers) -> None:
    """Let a request pass that the doorkeeper lets ask, or raise what he raises."""
    if keeper.free < Level.ASK and path not in OPEN_PATHS:
        keeper.check(Level.ASK, _authorization(headers))


def check_feedback(keeper: Doorkeeper, headers: Headers) -> None:
    """Let labels in, or raise what the doorkeeper raises."""
    if keeper.free >= Level.FEEDBACK:
        _refuse_other_sites(headers)
    keeper.check(Level.FEEDBACK, _authorization(headers))


def check_management(keeper: Doorkeeper, path: str, headers: Headers) -> None:
    """Let a request to a management path pass, or raise what the doorkeeper raises."""
    if _TELLING.fullmatch(path):
        return
    if keeper.free == Level.MANAGE:
        _refuse_other_sites(headers)
    keeper.check(Level.MANAGE, _authorization(headers))


def _authorization(headers: Headers) -> str:
    found = [value for name, value in headers if name == b"authorization"]
    return found[0].decode("latin-1") if len(found) == 1 else ""


def _refuse_other_sites(headers: Headers) -> None:
    """Loopback keeps other machines out but not the web pages open in a browser on this one.

    A page may send a request anywhere; the browser adds its Origin. A page whose name its owner points at 127.0.0.1
    (DNS rebinding) has an Origin that fits, but then the Host is that name.
    """
    for name, value in headers:
        text = value.decode("latin-1")
        if name == b"host" and not _here(f"//{text}"):
            raise ForbiddenError(f"such calls must name this machine, not '{text[:80]}'; use 127.0.0.1")
        if name == b"origin" and not _here(text):
            raise ForbiddenError(f"such calls do not come from web pages of '{text[:80]}'; send them yourself")


def _here(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
