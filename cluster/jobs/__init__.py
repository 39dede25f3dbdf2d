"""Commands for a cluster that is reached by its Jobs address alone: files go there, what is said comes back."""
