"""What an ensemble is: its schema, the checks that find a mistake early, files and digests. No torch, no Ray."""
