"""Errors that launch.py prints without a traceback; it exits with 2, for CommandFailed with 1."""


class ConfigError(ValueError):
    """A setting that is unknown, ill-typed or contradicts another; says which one and what to do."""


class RunDirectoryError(ValueError):
    """The folder is not what the command needs; says what to do."""


class CommandFailed(RuntimeError):
    """A command that cannot finish although its input is right; says why."""
