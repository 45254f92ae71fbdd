"""A scale model of the paper's studies: which reward is worth what, and what the KL term holds in place."""
