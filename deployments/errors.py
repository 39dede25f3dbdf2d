"""What can go wrong with a spec, a request, a deployment or a client; each with its code on both wires."""

from __future__ import annotations

import json

from quorate.fusion.errors import QuorateError, QuorumError


def located(spec_line: str, sentence: str, trace: str = "") -> str:
    """A sentence between the line of the spec that it is about and the lines of code that led to it."""
    return "\n".join(filter(None, (f"{spec_line}: {sentence}" if spec_line else sentence, trace)))


class SpecError(QuorateError):
    """A spec that cannot be served; raised before anything starts."""

    http_status, grpc_code = 400, "INVALID_ARGUMENT"

    def __init__(self, field: str, found: str, fix: str):
        super().__init__(field, found, fix)
        self.field, self.found, self.fix = field, found, fix

    def __str__(self) -> str:
        return located(self.spec_line, f"{self.field}: {self.found}; {self.fix}")


class DeadlineError(QuorumError):
    """The deadline passed before the quorum was in."""

    http_status, grpc_code = 504, "DEADLINE_EXCEEDED"


class OverloadedError(QuorateError):
    """A bounded queue is full; the request was not started."""

    http_status, grpc_code = 503, "RESOURCE_EXHAUSTED"

    def __init__(self, what: str, limit: int, retry_after_s: float):
        super().__init__(what, limit, retry_after_s)
        self.what, self.limit, self.retry_after_s = what, limit, retry_after_s

    def __str__(self) -> str:
        return f"{self.what} already holds its limit of {self.limit}; retry after {self.retry_after_s:g} s"


class UnavailableError(QuorateError):
    http_status, grpc_code = 503, "UNAVAILABLE"


class ConflictError(UnavailableError):
    """Somebody else is changing the same ensemble, or has changed it meanwhile."""


class RequestError(QuorateError):
    """The client's request is malformed or does not fit the model."""

    http_status, grpc_code = 400, "INVALID_ARGUMENT"


class RowsError(RequestError):
    """Rows that cannot be read, or do not fit what is to read them: where, what was found there, what to do."""

    def __init__(self, source: str, found: str, fix: str):
        super().__init__(source, found, fix)
        self.source, self.found, self.fix = source, found, fix

    def __str__(self) -> str:
        return f"{self.source}: {self.found}; {self.fix}"


class NotFoundError(RequestError):
    """The client named something that is not there."""

    http_status, grpc_code = 404, "NOT_FOUND"


class UnknownModelError(NotFoundError):
    def __init__(self, model: str, known: str, version: str = ""):
        super().__init__(model, known, version)
        self.model, self.known, self.version = model, known, version

    def __str__(self) -> str:
        version = f" version {self.version[:60]}" if self.version else ""
        return f"Request for unknown model: '{self.model}'{version} is not found; this server has {self.known}"


class UnsupportedError(RequestError):
    http_status, grpc_code = 501, "UNIMPLEMENTED"


class BodySizeError(RequestError):
    """A request is longer than the server takes."""

    http_status, grpc_code = 413, "RESOURCE_EXHAUSTED"

    def __init__(self, found: str, limit_bytes: int):
        super().__init__(found, limit_bytes)
        self.found, self.limit_bytes = found, limit_bytes

    def __str__(self) -> str:
        return f"the body {self.found} over {self.limit_bytes} bytes; send fewer rows at once"


class NonFiniteRowError(RequestError):
    """A row for which models gave only NaN or infinity: asking again gives the same."""

    def __init__(self, row: int, members: str, cause: str):
        super().__init__(row, members, cause)
        self.row, self.members, self.cause = row, members, cause

    def __str__(self) -> str:
        return f"row {self.row} got no finite answer from {self.members}: {self.cause}; change the row or leave it out"


class UnauthenticatedError(QuorateError):
    """The client sent no token, or one that is not known."""

    http_status, grpc_code = 401, "UNAUTHENTICATED"


class ForbiddenError(QuorateError):
    """The client is known, or need not be, but may not do this."""

    http_status, grpc_code = 403, "PERMISSION_DENIED"


class RemoteError(QuorateError):
    """A server refused; the text is its own. The kinds below are also the errors that the server met.

    Attributes:
        status: the HTTP status.
        retry_after_s: when the server would like to be asked again; 0 where it did not say.
    """

    def __init__(self, status: int, text: str, retry_after_s: float = 0.0):
        # Not super(): the kinds have a second parent, with arguments of its own.
        QuorateError.__init__(self, status, text, retry_after_s)
        self.status, self.text, self.retry_after_s = status, text, retry_after_s

    def __str__(self) -> str:
        return f"the server answered {self.status}: {self.text}"


class RemoteRequestError(RemoteError, RequestError):
    """400, or another status of the client's making."""


class RemoteUnauthenticatedError(RemoteError, UnauthenticatedError):
    """401."""


class RemoteForbiddenError(RemoteError, ForbiddenError):
    """403."""


class RemoteNotFoundError(RemoteRequestError, NotFoundError):
    """404."""


class RemoteUnsupportedError(RemoteRequestError, UnsupportedError):
    """501."""


class RemoteUnavailableError(RemoteError, UnavailableError):
    """503, without a time to come back."""


class RemoteQuorumError(RemoteUnavailableError, QuorumError):
    """503, where too few members answered."""


class RemoteConflictError(RemoteUnavailableError, ConflictError):
    """503, where somebody else is changing the ensemble."""


class RemoteBodySizeError(RemoteRequestError, BodySizeError):
    """413."""


class RemoteNonFiniteRowError(RemoteRequestError, NonFiniteRowError):
    """400, for a row that has no finite answer."""


class RemoteOverloadedError(RemoteError, OverloadedError):
    """503, with a time to come back."""


class RemoteDeadlineError(RemoteError, DeadlineError):
    """504."""


class MemberError(QuorateError):
    """A member's own code or files are at fault.

    Attributes:
        trace: the lines of its code that led there; empty for none.
    """

    def __init__(self, member: str, found: str, fix: str, trace: str = ""):
        super().__init__(member, found, fix, trace)
        self.member, self.found, self.fix, self.trace = member, found, fix, trace

    def __str__(self) -> str:
        return located(self.spec_line, f"members.{self.member}: {self.found}; {self.fix}", self.trace)


class MemberLoadError(MemberError):
    """A member's model or weights could not be loaded where the replica runs."""


class MemberFailedError(MemberError):
    """A member that is loaded failed on all rows that it was given."""


class SentError(QuorateError):
    """An error on its way through Serve, which passes on no more than text: itself in one line, however many it has."""

    def __init__(self, kind: str, arguments: tuple[str, ...]):
        super().__init__(kind, arguments)
        self.kind, self.arguments = kind, arguments

    def __str__(self) -> str:
        return json.dumps([self.kind, *self.arguments], default=str)


class DeployError(QuorateError):
    """The cluster cannot run what the spec asks."""


class RecordVersionError(DeployError):
    """What the registry says was written by another version of Quorate, in a way that this one cannot read."""

    def __init__(self, writer: str, reader: str, found: str):
        super().__init__(writer, reader, found)
        self.writer, self.reader, self.found = writer, reader, found

    def __str__(self) -> str:
        return (
            f"what is recorded was written by Quorate {self.writer}, and this is {self.reader}: {self.found}; upgrade "
            "Quorate here, see docs/upgrading.md"
        )


class MemberStartError(MemberLoadError, DeployError):
    """A member's replica did not come up on the cluster."""


class ExposureError(DeployError):
    """Doors that would be open to the network although nobody asked for that."""

    def __init__(self, host: str):
        super().__init__(host)
        self.host = host

    def __str__(self) -> str:
        return (
            f"{self.host} is reachable from other machines, and anyone there could ask; give --auth-token-file FILE, "
            "or --insecure if that is meant"
        )


class CredentialError(DeployError):
    """A file of tokens, a certificate or a key that cannot be used."""

    def __init__(self, path: str, found: str, fix: str):
        super().__init__(path, found, fix)
        self.path, self.found, self.fix = path, found, fix

    def __str__(self) -> str:
        return f"{self.path}: {self.found}; {self.fix}"


class CanaryError(DeployError):
    """A revision that was kept from going live; the old one still answers."""

    def __init__(self, revision: str, found: str, fix: str):
        super().__init__(revision, found, fix)
        self.revision, self.found, self.fix = revision, found, fix

    def __str__(self) -> str:
        return f"{self.revision}: {self.found}; {self.fix}"


class ShadowError(DeployError):
    """A revision that is no shadow, or cannot be one."""

    def __init__(self, ensemble: str, revision: str, found: str):
        super().__init__(ensemble, revision, found)
        self.ensemble, self.revision, self.found = ensemble, revision, found

    def __str__(self) -> str:
        return f"shadow {self.revision} of {self.ensemble}: {self.found}"


class DamagedContentError(DeployError):
    """Bytes that are not what their digest says."""

    def __init__(self, digest: str):
        super().__init__(digest)
        self.digest = digest

    def __str__(self) -> str:
        return f"what arrived is not {self.digest}; deploy again"


class MissingArtifactError(DeployError):
    """A file of a revision that this node lacks, and no other gave."""

    def __init__(self, path: str, digest: str, looked: str):
        super().__init__(path, digest, looked)
        self.path, self.digest, self.looked = path, digest, looked

        self.found = f"{path} ({digest[:19]}) is missing on this node: {looked}"
        self.fix = "deploy it again from where its files are; --store keeps copies outside of the cluster"

    def __str__(self) -> str:
        return f"{self.found}; {self.fix}"


class ClusterError(QuorateError):
    """No cluster, or not the one that was asked for."""
