"""Measure how good a model is: scores, held-out evaluation, test sets, statistics, quizzes."""
