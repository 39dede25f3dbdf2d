"""Workers of Ray that are forked from one process a node, which has imported what they need.

Importing torch, Ray and Serve costs each worker 5 s of one core and 240 MB of its own; forked, it shares those pages.
``command`` says to Ray what to start in place of Python: for all workers of nodes that we start, or for some on nodes
of others, where Ray needs another second to set up any runtime environment. ``start_worker`` is what it starts,
``server`` the process that is forked, ``early`` the same begun before its node, of which all but Ray is imported while
that starts.
"""
