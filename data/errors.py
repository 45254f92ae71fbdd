"""Errors that a retry would produce again."""

from __future__ import annotations


class PermanentError(Exception):
    """A failure that the same inputs produce again: it ends the run without restarts or retries.

    Raise a subclass with one message, which names the file or setting and the fix. It travels between
    processes, so it must pickle: no arguments besides the message.
    """


def permanent_cause(error: BaseException) -> PermanentError | None:
    """The PermanentError that `error` is, wraps or was raised from; None if there is none.

    Ray wraps an error of another process in a RayTaskError whose `cause` is the original; task groups wrap
    several in an ExceptionGroup.
    """
    # Ray's wrapper is an instance of its cause's class too, with a remote traceback for a message.
    original = getattr(error, "cause", None)
    if isinstance(original, BaseException):
        return permanent_cause(original)
    if isinstance(error, PermanentError):
        return error
    inner = [*error.exceptions] if isinstance(error, BaseExceptionGroup) else []
    if error.__cause__ is not None:
        inner.append(error.__cause__)
    return next(filter(None, map(permanent_cause, inner)), None)
