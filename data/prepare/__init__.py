"""Manifests made: of a benchmark's labels and its videos, and of videos without labels."""
