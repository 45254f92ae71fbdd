"""The ground floor: the Ray session, bounded calls, killable processes, files, and errors for users."""
