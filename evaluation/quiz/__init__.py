"""`launch.py ask` and `launch.py quiz`: free questions, quizzes, and an LLM judge for open answers."""
