"""Parts of the spec: the types that its fields share, fusions, steps before a model."""
