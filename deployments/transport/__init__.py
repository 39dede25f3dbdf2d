"""Messages between fusion and member replicas, and the connections that carry them."""
