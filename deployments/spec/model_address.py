"""Models of other servers, by their addresses: ``http://HOST:PORT/v2/models/NAME``, ``grpc:HOST:PORT/NAME``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

# An address of the Open Inference Protocol says that it is one of a model; any other may be that of a file.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<place>[^?#]+?)/v2/models/(?P<model>[^/?#]+)(/versions/(?P<version>[^/?#]+))?"
)
_SHORT = re.compile(r"(?P<scheme>https?|grpcs?):(?P<place>[^/?#:]+:\d+)/(?P<model>[^/?#]+)(/(?P<version>[^/?#]+))?")


@dataclass(frozen=True)
class ModelAddress:
    """A model of a server.

    Attributes:
        scheme: http, https, grpc or grpcs, which is gRPC with TLS.
        place: host and port, of HTTP with the path before ``/v2``.
        version: empty for the one that the server takes by itself.
    """

    scheme: str
    place: str
    model: str
    version: str = ""


def address_of(model: str) -> ModelAddress | None:
    """The address that a member's ``model`` is; None where it is none."""
    found = _URL.fullmatch(model) or _SHORT.fullmatch(model)
    if found is None:
        return None
    return ModelAddress(found["scheme"], found["place"], unquote(found["model"]), unquote(found["version"] or ""))
