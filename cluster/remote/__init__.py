"""Reaching a run of another process: `launch.py status`, `scale` and `stop`."""
