"""The first minutes on a GPU: what works, and what it costs. `python -m benchmarks.gpu_smoke`."""
