"""What Ray Serve is asked to do: deploy, roll out, watch, place and scale an ensemble."""
