"""One connection of a client: bytes in, answers out, and what it may not do."""
