"""Errors that would occur again on a retry."""

from __future__ import annotations


class PermanentError(Exception):
    """A failure that would occur again with the same inputs. It ends the run without restarts or retries.

    Raise a subclass with one message that names the file or setting and the fix. Errors are pickled between
    processes, so a subclass must take no argument besides the message.
    """


def permanent_cause(error: BaseException) -> PermanentError | None:
    """Find the PermanentError that `error` is, wraps or was raised from; None if there is none.

    Ray wraps an error from another process in a RayTaskError whose `cause` is the original. Task groups wrap
    several errors in an ExceptionGroup.
    """
    # Ray's wrapper is also an instance of its cause's class, but its message is a remote traceback.
    original = getattr(error, "cause", None)
    if isinstance(original, BaseException):
        return permanent_cause(original)
    if isinstance(error, PermanentError):
        return error
    inner = [*error.exceptions] if isinstance(error, BaseExceptionGroup) else []
    if error.__cause__ is not None:
        inner.append(error.__cause__)
    return next(filter(None, map(permanent_cause, inner)), None)
