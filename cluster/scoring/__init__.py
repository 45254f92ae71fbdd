"""Scores for files, folders and tables with a trained model: `launch.py score`."""
