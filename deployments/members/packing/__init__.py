"""Members of one process on one device: equal tensors held once, one forward pass for those of one architecture."""
