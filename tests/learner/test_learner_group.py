"""How the learner's group answers for its ranks: plain Ray actors stand in for them."""

import asyncio
import time
from typing import Any

import pytest

from data.errors import PermanentError
from learner.config import LearnerConfig
from learner.group import LearnerFailed, LearnerGroup

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]


def outcome(*errors: Exception | None) -> BaseException:
    """What `save` of a group raises whose ranks raise `errors`; one without stays in its collective."""
    import ray

    class Rank:  # inside, so that its process need not import this module, and torch with it
        def save(self, error: Exception | None) -> None:
            if error is None:
                time.sleep(600)
            else:
                raise error

    actor: Any = ray.remote(num_cpus=0)(Rank)

    async def run() -> BaseException:
        learner = LearnerGroup(LearnerConfig(ranks=len(errors)), "model", 5)
        learner._ranks = [actor.remote() for _ in errors]
        with pytest.raises((PermanentError, LearnerFailed)) as caught:
            await learner._call_all("save", 60, lambda rank: (errors[rank],))
        assert not learner._ranks, "all ranks have ended"
        return caught.value

    return asyncio.run(run())


def test_an_error_that_must_repeat_comes_out_as_it_was_raised(local_ray: None) -> None:
    """Not as LearnerFailed, which restarts the ranks; whatever the other ranks say of it."""
    mismatch = PermanentError("the engine's prompt has 296 tokens, the learner's 152")
    broken = RuntimeError("Connection closed by peer")
    found = outcome(broken, mismatch, None)
    assert type(found) is PermanentError
    assert str(found) == str(mismatch)
    assert isinstance(outcome(broken, None), LearnerFailed)
