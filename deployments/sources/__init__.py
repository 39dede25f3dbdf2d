"""What a member may be: a file for each kind of model, found by how the spec names it, read when a member is one."""
