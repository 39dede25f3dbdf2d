"""A first spec for models that are there: what a folder holds, what its models read and give, as they are tried."""
