"""Judging models on test sets by the field's figures: sets, predictions, results, tables, plots."""
