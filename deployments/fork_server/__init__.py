"""Workers of Ray that are forked from one process a node, which has imported what they all need.

Importing torch, Ray and Serve costs each worker 5 s of one core and 240 MB. Forked, it starts in a fifth of the time
and shares those pages with its like. Ray is asked with its own ``py_executable``: a program that it starts in place of
Python. ``command`` makes that setting, ``start_worker`` is the program, ``server`` the process that is forked.
"""
