"""What runs on Ray Serve: the two deployments, where the replicas of others are, and the policy that scales them."""
