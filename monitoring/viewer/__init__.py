"""A local web page that shows run directories: curves, videos, ranking, fleet. It never writes to them."""
