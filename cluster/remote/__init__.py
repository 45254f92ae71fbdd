"""Reaching a run that goes on in another process: `launch.py status`, `scale` and `stop`."""
