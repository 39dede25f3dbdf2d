"""What a user asks for in one call: tune weights, tune decisions, compress, promote."""
