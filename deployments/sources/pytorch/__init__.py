"""What torch itself writes: exported programs, TorchScript, weights with and without pickles."""
