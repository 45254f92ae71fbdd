"""The basis of all other packages: Ray session, calls with deadlines, killable processes, files, errors."""
