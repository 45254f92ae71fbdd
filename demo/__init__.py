"""The demo's material: its clips, and the tiny base model with its recipe."""
