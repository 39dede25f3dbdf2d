"""A recorder whose spans are looked at where they were made."""

import itertools

from quorate.deployments.telemetry.trace_context import TraceContext


class RecordedSpan:
    """What was said of a span."""

    _ids = itertools.count(1)

    def __init__(self, name, parent, attributes, links):
        self.name, self.parent = name, parent
        self.attributes, self.links = dict(attributes or {}), list(links)
        self.events, self.failure, self.ended = [], "", False
        self.context = TraceContext(1 if parent is None else parent.trace_id, next(self._ids), 1)

    def set(self, attributes):
        self.attributes |= attributes

    def event(self, name, attributes):
        self.events.append((name, dict(attributes)))

    def link(self, context):
        self.links.append(context)

    def fail(self, sentence):
        self.failure = sentence

    def end(self, end_ns=None):
        assert not self.ended
        self.ended = True


class RecordedSpans:
    """All of them, in the order of their beginning."""

    def __init__(self):
        self.spans = []

    def start(self, name, parent, kind=None, attributes=None, links=(), start_ns=None, within=None):
        self.spans.append(RecordedSpan(name, parent, attributes, links))
        return self.spans[-1]

    def close(self):
        pass
