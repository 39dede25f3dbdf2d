"""A spec's graph as one network, trained: feature fusions, heads, learned rules, or everything end to end."""
