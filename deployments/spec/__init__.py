"""What an ensemble is, read from a spec file and checked as a whole before anything starts. No torch, no Ray.

``schema`` has the fields and their types; ``ensemble`` is the whole spec and has it checked: ``check_members``,
``check_fusions``, ``check_calibration`` and ``check_graph`` find the first mistake, ``suggestions`` what was probably
meant, ``defaults`` fills in what need not be said. ``files`` reads and writes spec files, ``check_files`` looks at what
they name, ``digests`` pins it. ``model_formats`` is the table of ways to give a model, ``patch`` what may change over
the network.
"""
