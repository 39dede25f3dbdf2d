"""What an ensemble remembers of its answers and is told of them later: records, labels, and what reads both.

A record is a folder: ``answers/`` and ``labels/`` hold Arrow IPC files named after the replica that wrote them,
``revisions/`` what is needed to fuse again. Entry points: ``Learning`` in a server, ``Record(folder)`` for readers.
"""
