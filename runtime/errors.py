"""Errors that a user mends: launch.py prints them without a traceback."""


class ConfigError(ValueError):
    """A setting that is unknown, ill-typed or contradicts another; says which one and what to do."""


class RunDirectoryError(ValueError):
    """The folder is not what the command needs; says what to do."""
