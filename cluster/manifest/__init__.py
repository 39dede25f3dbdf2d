"""Manifests: a spec as what KubeRay, Helm or Ray's cluster launcher start. Plain functions of spec and settings.

``worker_groups`` packs replicas into pods, ``pods`` writes what runs in one, ``ray_service`` the whole, ``kubernetes``
what stands around it; ``helm_chart`` and ``ray_up`` are other shapes of the same.
"""
