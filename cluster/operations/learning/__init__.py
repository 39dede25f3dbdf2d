"""What was answered, and what was true: labels in, recorded answers computed again."""
