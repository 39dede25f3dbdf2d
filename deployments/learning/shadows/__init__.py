"""Shadow fusions: what other revisions would have said of the same members' outputs, beside every answer and after it.

Entry points: ``ShadowFusions`` in a server, ``misfit`` for whoever wants to know whether a revision can be one.
"""
