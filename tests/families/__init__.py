"""Tiny random checkpoints of the published model families, and what engine and learner make of them."""
