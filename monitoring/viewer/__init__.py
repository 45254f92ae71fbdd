"""A local web page over run directories: curves, videos, ranking, fleet. It reads, and never writes."""
