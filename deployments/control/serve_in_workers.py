"""What workers need of Ray and Serve, for the process that they are forked from: importing this imports it."""

from quorate.deployments.control.ray_private import without_drawn_ids

with without_drawn_ids():
    import ray.serve._private.controller
    import ray.serve._private.replica  # noqa: F401

    import quorate.deployments.control.serve.fusion_deployment
    import quorate.deployments.control.serve.member_deployment
    import quorate.deployments.control.serve.online_deployment  # noqa: F401
