"""Measure agreement with MOS: correlations and RMSE, with bootstrap intervals."""
