"""The root of every error a user can meet, and what can go wrong in fusing.

Each carries its code on both wires and survives pickling between processes.
"""

from __future__ import annotations

from typing import ClassVar


class QuorateError(Exception):
    """Root of the tree: text is what was asked, what was found, what to do.

    Attributes:
        spec_line: ``digits.yaml:6``, the line of the spec that it is about; empty where that is not known.
    """

    http_status: ClassVar[int] = 500
    grpc_code: ClassVar[str] = "INTERNAL"
    spec_line: str = ""


class MissingExtraError(QuorateError, ImportError):
    """A part of the package that was not installed with it; an ImportError too, for those who ask that way."""

    def __init__(self, what: str, module: str, extra: str):
        super().__init__(what, module, extra)
        self.what, self.module, self.extra = what, module, extra

    def __str__(self) -> str:
        return f"{self.what} needs {self.module}, which is not installed; run: pip install 'quorate[{self.extra}]'"


class FusionError(QuorateError):
    """A rule was given something it cannot fuse."""

    http_status, grpc_code = 400, "INVALID_ARGUMENT"


class MemberCountError(FusionError):
    def __init__(self, expected: int, got: int):
        super().__init__(expected, got)
        self.expected, self.got = expected, got

    def __str__(self) -> str:
        return f"fusion was made for {self.expected} members but got {self.got}; give one output per member"


class RuleOptionError(FusionError):
    """An option of a rule is outside what the rule can do."""

    def __init__(self, rule: str, option: str, found: object, fix: str):
        super().__init__(rule, option, found, fix)
        self.rule, self.option, self.found, self.fix = rule, option, found, fix

    def __str__(self) -> str:
        return f"{self.rule}: {self.option} is {self.found!r}; {self.fix}"


class ShapeError(FusionError):
    def __init__(self, what: str, expected: str, got: str):
        super().__init__(what, expected, got)
        self.what, self.expected, self.got = what, expected, got

    def __str__(self) -> str:
        return f"{self.what} has shape {self.got}; give {self.expected}"


class MergeError(FusionError):
    """Members whose parameters cannot be mixed."""


class ArchitectureMismatchError(MergeError):
    def __init__(self, member: str, tensor: str, found: str, reference: str, expected: str):
        super().__init__(member, tensor, found, reference, expected)
        self.member, self.tensor, self.found = member, tensor, found
        self.reference, self.expected = reference, expected

    def __str__(self) -> str:
        return (
            f"{self.tensor} is {self.found} in {self.member} but {self.expected} in {self.reference}; "
            "merge members of one architecture, or fuse their outputs"
        )


class NonFiniteStateError(MergeError):
    def __init__(self, member: str, tensor: str):
        super().__init__(member, tensor)
        self.member, self.tensor = member, tensor

    def __str__(self) -> str:
        return f"{self.tensor} of {self.member} holds NaN or infinity; leave that member out"


class UnrelatedMembersError(MergeError):
    """Parameters that were trained from different starts: their average is noise."""

    def __init__(self, member: str, reference: str, tensor: str, cosine: float, needed: float):
        super().__init__(member, reference, tensor, cosine, needed)
        self.member, self.reference, self.tensor = member, reference, tensor
        self.cosine, self.needed = cosine, needed

    def __str__(self) -> str:
        return (
            f"{self.tensor} of {self.member} and of {self.reference} have cosine {self.cosine:.3f}, one start gives "
            f"{self.needed:.2f} or more; merge members fine-tuned from one checkpoint, or fuse their outputs"
        )


class VocabularyError(FusionError):
    """Members whose token numbers stand for different tokens."""

    def __init__(self, member: str, index: int, found: str, reference: str, expected: str):
        super().__init__(member, index, found, reference, expected)
        self.member, self.index, self.found = member, index, found
        self.reference, self.expected = reference, expected

    def __str__(self) -> str:
        return (
            f"token {self.index} is {self.found!r} in {self.member} but {self.expected!r} in {self.reference}; "
            "fuse generators that share a tokenizer"
        )


class QuorumError(QuorateError):
    """Too few members gave a usable row.

    Attributes:
        retry_after_s: when enough of them may be there again; 0 where that is not known, or now.
    """

    http_status, grpc_code = 503, "UNAVAILABLE"

    def __init__(self, needed: str, got: str, missing: str = "", retry_after_s: float = 0.0):
        super().__init__(needed, got, missing, retry_after_s)
        self.needed, self.got, self.missing, self.retry_after_s = needed, got, missing, retry_after_s

    def __str__(self) -> str:
        missing = f" (missing: {self.missing})" if self.missing else ""
        return f"fusion needs {self.needed} but got {self.got}{missing}; retry, or lower quorum in the spec"
