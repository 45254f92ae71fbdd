"""Errors that launch.py prints without a traceback. It exits with status 1 for CommandFailed, else with 2."""


class ConfigError(ValueError):
    """A setting is unknown, has the wrong type or contradicts another. The message names it and the fix."""


class RunDirectoryError(ValueError):
    """A run directory cannot be used as the command needs. The message gives the fix."""


class CommandFailed(RuntimeError):
    """A command cannot finish although its input is valid. The message gives the cause."""
