"""The commands of launch.py: what each takes, prints and calls. Heavy imports are inside them."""
