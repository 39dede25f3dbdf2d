"""One command a file: its options, one call of ``quorate.cluster.operations``, and what it prints."""
