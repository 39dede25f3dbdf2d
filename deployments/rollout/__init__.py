"""How a revision goes live: on all fusion replicas or on none, after it was compared with what answered before."""
