"""What learns an ensemble's weights in the cluster: it reads what all doors have recorded, and publishes.

Entry point: ``OnlineLearning(ensemble, registry).turn()``, about every second, in one process of the cluster.
"""
