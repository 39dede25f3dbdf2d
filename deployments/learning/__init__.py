"""What an ensemble remembers of its answers and is told of them later: records, labels, and what reads both.

A record is a folder: ``answers/`` and ``labels/`` hold Arrow IPC files named after the replica that wrote them,
``revisions/`` what is needed to fuse again. Entry points: ``Learning(engine)`` in a server, ``open_record(folder)`` for
readers, ``replay_rows(revision, rows)`` for those who fuse recorded rows again.
"""
