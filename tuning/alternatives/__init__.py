"""What could be served instead: each member alone, the uniform mean, the spec as it is, and fusions that are fitted."""
