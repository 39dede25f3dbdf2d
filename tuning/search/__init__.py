"""The architecture search: space, trials on Ray Tune, and the specs worth deploying."""
