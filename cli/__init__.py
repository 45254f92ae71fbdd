"""The commands of launch.py and their terminal output. Slow modules are imported only when a command runs."""
