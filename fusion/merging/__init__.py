"""Many networks made one by their parameters: soups, task vectors, interpolation."""
