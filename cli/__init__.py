"""The commands of launch.py and everything they print. Commands import heavy modules when they run."""
