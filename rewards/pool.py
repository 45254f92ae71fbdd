"""The pool of reward actors. Each cohort goes to the actor with the fewest outstanding cohorts."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import ray

from rewards.cohort import CohortTexts, RewardTable, score_cohort
from rewards.config import RewardConfig
from rewards.registry import rewards_of
from runtime.actors import ACTOR_IS_GONE, fault_report, remote
from runtime.calls import DeadlineError

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
START_TIMEOUT_S = 120.0


class RewardsFailed(RuntimeError):
    """A cohort could not be scored, although failed actors were replaced."""


class RewardActor:
    """An actor that calls `score_cohort`."""

    def __init__(self, config: RewardConfig) -> None:
        self._config = config
        self._rewards = rewards_of(config)

    def score(self, cohort: CohortTexts) -> RewardTable:
        return score_cohort(cohort, self._config, self._rewards)

    def ping(self) -> bool:
        return True


class RewardPool:
    """A pool of reward actors, which replaces actors that fail.

    pool = RewardPool(config)
    await pool.start()
    table = await pool.score(cohort)
    await pool.close()
    """

    def __init__(
        self,
        config: RewardConfig,
        on_fault: Callable[[str, str], None] = lambda actor, reason: None,
        on_recovery: Callable[[str, str, float], None] = lambda actor, successor, seconds: None,
    ) -> None:
        """Create the pool; `start` starts its actors.

        Args:
            on_fault: called with the name of an actor that must be replaced, and the reason.
            on_recovery: called when another actor has scored a failed actor's cohort, with the names of both
                and the seconds since the failure.
        """
        self._config = config
        self._on_fault = on_fault
        self._on_recovery = on_recovery
        self._outstanding: dict[Any, int] = {}

    async def start(self) -> None:
        """Start all actors. Raises DeadlineError if they do not respond in time."""
        actors = [self._add() for _ in range(self._config.actors)]
        await asyncio.gather(
            *(remote(RewardActor.ping).on(actor, "reward actor", START_TIMEOUT_S) for actor in actors)
        )

    async def score(self, cohort: CohortTexts) -> RewardTable:
        """Compute the rewards of one cohort. If its actor dies or hangs, replace it and use another.

        Raises RewardsFailed after `MAX_ATTEMPTS`. An error raised by a reward is not retried.
        """
        reason: Exception | None = None
        failed_s = 0.0
        for _ in range(MAX_ATTEMPTS):
            actor = min(self._outstanding, key=lambda a: self._outstanding[a])
            self._outstanding[actor] += 1
            try:
                table = await remote(RewardActor.score, cohort).on(
                    actor, "reward actor", self._config.timeout_s
                )
                if reason is not None:
                    self._on_recovery("a reward actor", "another", time.monotonic() - failed_s)
                return table
            except (*ACTOR_IS_GONE, DeadlineError) as error:
                reason, failed_s = error, failed_s or time.monotonic()
                self._replace(actor, error)
            finally:
                if actor in self._outstanding:
                    self._outstanding[actor] -= 1
        raise RewardsFailed(f"a cohort could not be scored in {MAX_ATTEMPTS} attempts: {reason}")

    async def close(self) -> None:
        """Kill all actors."""
        actors, self._outstanding = list(self._outstanding), {}
        for actor in actors:
            ray.kill(actor)

    def _add(self) -> Any:
        actor = ray.remote(RewardActor).options(num_cpus=self._config.cpus_per_actor).remote(self._config)
        self._outstanding[actor] = 0
        return actor

    def _replace(self, actor: Any, reason: Exception) -> None:
        if self._outstanding.pop(actor, None) is None:
            return  # already replaced by the call for another cohort
        logger.warning("a reward actor died or hung and is replaced: %s", reason)
        self._on_fault("a reward actor", fault_report(reason, "it is replaced"))
        ray.kill(actor)
        self._add()
