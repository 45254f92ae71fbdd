"""Public sets of questions about video quality, read into one record."""
