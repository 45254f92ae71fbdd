"""Reaches a run from another process: `launch.py status`, `scale` and `stop`."""
