"""Label files of published benchmarks, and the videos that they name."""
