"""Members trained: the loop, its checkpoints, students, heads, fewer bits."""
