"""The Open Inference Protocol's datatypes, tensors and messages, one codec a format. No model, no connection."""
