"""Members that live elsewhere: a model of any server of the Open Inference Protocol, by HTTP or gRPC."""
