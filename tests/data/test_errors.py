"""Failures that must repeat are found wherever they are wrapped."""

import pickle

import ray

from data.errors import PermanentError, permanent_cause
from learner.checkpoint import CheckpointError
from learner.inputs import PromptMismatch

MISMATCH = PromptMismatch("video v0: 152 tokens against 296")


def from_ray(error: BaseException) -> BaseException:
    """What a call of an actor raises in the caller's process."""
    wrapped = ray.exceptions.RayTaskError("update", "a remote traceback", error)
    return wrapped.as_instanceof_cause()


def raised_from(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def test_the_error_itself_is_found_behind_every_wrapper() -> None:
    remote = from_ray(MISMATCH)
    assert isinstance(remote, ray.exceptions.RayError)
    for wrapped in (
        MISMATCH,
        remote,
        from_ray(remote),
        raised_from(RuntimeError("learner rank 0.update failed"), remote),
        ExceptionGroup("two loops", [OSError("disk"), raised_from(RuntimeError("x"), remote)]),
    ):
        assert permanent_cause(wrapped) is MISMATCH


def test_other_errors_may_be_retried() -> None:
    for error in (ValueError("x"), from_ray(RuntimeError("a rank died")), ExceptionGroup("g", [OSError()])):
        assert permanent_cause(error) is None


def test_permanent_errors_travel_between_processes() -> None:
    for error in (MISMATCH, CheckpointError("step-5: rank-1-of-2.safetensors is missing")):
        assert isinstance(error, PermanentError)
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy)) == (type(error), str(error))
