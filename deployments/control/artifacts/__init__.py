"""How what a revision names comes to the nodes: from the one that has it to those that need it, or out of a store."""
