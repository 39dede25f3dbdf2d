"""What is written for other systems: Kubernetes and Helm, ``ray up``, Grafana and Prometheus, editors of specs."""
