"""Commands about what was answered, and what was true."""
