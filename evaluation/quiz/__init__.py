"""What a model understands of videos: free questions, quizzes, and judging their open answers."""
