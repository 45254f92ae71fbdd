"""Free questions (`launch.py ask`), quizzes (`launch.py quiz`), and an LLM judge for open answers."""
