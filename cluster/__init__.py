"""The control loop and everything around it: configuration, placement, supervision, metrics."""
