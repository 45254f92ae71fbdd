"""Reads label files of published benchmarks, and finds the videos that they name."""
