"""The gRPC door: the protocol's RPCs over the service."""
