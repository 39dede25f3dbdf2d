"""The Open Inference Protocol's service; ``http`` and ``grpc`` translate it for their wires."""
