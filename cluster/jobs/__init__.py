"""Commands for a cluster that is reached by its Jobs address alone: what they need travels, what they say comes back."""
