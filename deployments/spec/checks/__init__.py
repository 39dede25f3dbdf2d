"""What a spec must hold beyond the type of each field, one subject a file."""
