"""What each command does, below its options."""
